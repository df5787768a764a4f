"""MCP at `/mcp` with the real client: the tools, what they say of themselves, and their errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from recollect.errors import EngineUnavailable
from server.engines.scripted import ScriptedEngine
from tests.api.conftest import Served, serving
from tests.api.live import listening

TOOLS = ["search_memories", "add_memory", "get_memory", "update_memory", "delete_memory", "ask_agent", "send_feedback", "get_status"]
READ_ONLY = {"search_memories", "get_memory", "get_status", "get_reading", "list_documents"}
DESTRUCTIVE = {"update_memory", "delete_memory", "delete_document"}
TOKENS, CHARACTERS_A_TOKEN = 2_500, 3.5


@asynccontextmanager
async def connected(
    tmp_path: Path, *, prefix: str = "", path: str = "", engine: ScriptedEngine | None = None, **sections: dict[str, Any]
) -> AsyncGenerator[tuple[Client, Served]]:
    async with listening(tmp_path / "home", engine or ScriptedEngine(), **sections) as served:
        url = str(served.http.base_url).rstrip("/")
        async with Client(f"{url}{prefix}{path}/mcp") as client:
            yield client, served


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return "".join(getattr(part, "text", "") for part in result.content)


@pytest.mark.parametrize("profile", ["memory", "documents"])
async def test_the_tools_of_a_profile_are_annotated_structured_and_short(tmp_path: Path, profile: str) -> None:
    path = "" if profile == "memory" else f"/{profile}"
    async with connected(tmp_path, path=path) as (client, _):
        tools = (await client.list_tools()).tools
        names = {tool.name for tool in tools}
        assert len(tools) <= 10
        if profile == "memory":
            assert [tool.name for tool in tools] == TOOLS
        for tool in tools:
            assert tool.title
            assert tool.description
            assert tool.output_schema
            hints = tool.annotations
            assert hints is not None
            assert hints.open_world_hint is False
            assert None not in (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.title)
        assert {tool.name for tool in tools if tool.annotations and tool.annotations.read_only_hint} == READ_ONLY & names
        assert {tool.name for tool in tools if tool.annotations and tool.annotations.destructive_hint} == DESTRUCTIVE & names
        sent = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
        assert len(json.dumps(sent, separators=(",", ":"))) / CHARACTERS_A_TOKEN < TOKENS


async def test_all_tools_together_are_offered_only_where_that_is_set(tmp_path: Path) -> None:
    async with connected(tmp_path, path="/all", mcp={"all": True}) as (client, _):
        assert {"search_memories", "read_document"} <= {tool.name for tool in (await client.list_tools()).tools}
    async with serving(tmp_path / "other") as served:
        assert (await served.http.post("/all/mcp", json={})).status_code == 404


async def test_a_memory_is_looked_at_and_changed(tmp_path: Path) -> None:
    async with connected(tmp_path) as (client, served):
        added = await call(client, "add_memory", text="Ada plays the cello.")
        changed = await call(client, "update_memory", id=added["id"], text="Ada plays the viola.", tags=["music"])
        assert changed["text"] == "Ada plays the viola."
        got = await call(client, "get_memory", id=added["id"])
        assert (got["text"], got["tags"], got["versions"], got["trust"]) == ("Ada plays the viola.", ["music"], 2, "user")
        await call(client, "update_memory", id=added["id"], tags=[])
        again = await call(client, "get_memory", id=added["id"])
        assert (again["text"], again["tags"]) == ("Ada plays the viola.", [])
        assert "give text or tags" in await refusal(client, "update_memory", id=added["id"])
        assert "no memory 'nothing'" in await refusal(client, "get_memory", id="nothing")
        assert (await served.http.get("/v1/memories")).json()["data"][0]["provenance"]["channel"] == "mcp"


async def test_feedback_on_an_answer_is_logged(tmp_path: Path) -> None:
    async with connected(tmp_path) as (client, served):
        answered = await call(client, "ask_agent", question="What is two and two?")
        await call(client, "send_feedback", trajectory_id=answered["trajectory_id"], label="down", correction="Four.")
        [logged] = await served.logged()
        assert [(feedback.label, feedback.correction) for feedback in logged.feedback] == [("down", "Four.")]
        assert "give label, correction or comment" in await refusal(client, "send_feedback", trajectory_id=answered["trajectory_id"])
        assert "no trajectory" in await refusal(client, "send_feedback", trajectory_id="0" * 32, label="up")


async def test_a_document_is_read_by_parts_begun_and_asked_about(tmp_path: Path) -> None:
    engine = ScriptedEngine(answer=lambda call: "\\boxed{Rex}")
    async with connected(tmp_path, path="/documents", engine=engine) as (client, served):
        document = await call(client, "add_document", text="The dog is called Rex. " * 2_000, filename="dog.txt")
        assert [one["filename"] for one in (await call(client, "list_documents"))["documents"]] == ["dog.txt"]
        engine.trouble.hold = asyncio.Event()
        begun = await call(client, "read_document", question="What is the dog called?", file_id=document["file_id"], wait_s=0.0)
        assert (begun["status"], begun["answer"]) == ("running", None)
        waiting = await call(client, "get_reading", reading_id=begun["reading_id"], wait_s=0.1)
        assert waiting["status"] == "running"
        engine.trouble.hold.set()
        done = await call(client, "get_reading", reading_id=begun["reading_id"], wait_s=30.0)
        assert done["status"] == "done"
        assert "Rex" in done["answer"]
        assert done["sections_read"] > 1
        [logged] = await served.logged()
        assert logged.trajectory.id == begun["reading_id"]
        # Another process knows it from the log alone.
        served.service.readings._ended.clear()  # pyright: ignore[reportPrivateUsage]
        assert await call(client, "get_reading", reading_id=begun["reading_id"]) == done
        assert "no reading" in await refusal(client, "get_reading", reading_id=begun["reading_id"], namespace="bob")
        assert (await call(client, "delete_document", file_id=document["file_id"]))["deleted"] is True
        assert "no file" in await refusal(client, "read_document", question="?", file_id=document["file_id"])


async def test_a_reading_is_cancelled_or_fails_and_says_so(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    async with connected(tmp_path, path="/documents", engine=engine) as (client, _):
        engine.trouble.hold = asyncio.Event()
        begun = await call(client, "read_document", question="What?", text="A short text.", wait_s=0.0)
        cancelled = await call(client, "cancel_reading", reading_id=begun["reading_id"])
        assert cancelled["status"] == "cancelled"
        engine.trouble.hold = None
        engine.trouble.fail = EngineUnavailable("the engine is away")
        failed = await call(client, "read_document", question="What?", text="A short text.", wait_s=10.0)
        assert (failed["status"], failed["error"]) == ("failed", "EngineUnavailable: the engine is away")
        assert "one of them" in await refusal(client, "read_document", question="What?")


async def test_a_reading_ends_when_its_namespace_is_forgotten(tmp_path: Path) -> None:
    engine = ScriptedEngine(answer=lambda call: "\\boxed{Rex}")
    async with connected(tmp_path, path="/documents", engine=engine) as (client, served):
        done = await call(client, "read_document", question="What is the dog called?", text="The dog is called Rex.", wait_s=30.0)
        engine.trouble.hold = asyncio.Event()
        running = await call(client, "read_document", question="And the cat?", text="The cat is called Miso.", wait_s=0.0)
        gone = await served.http.post("/v1/memories/forget", json={"everything": True, "namespace": "user/default"})
        assert gone.status_code == 200, gone.text
        for reading in (done, running):
            assert "no reading" in await refusal(client, "get_reading", reading_id=reading["reading_id"])


async def test_resources_are_a_memory_a_profile_and_the_status(tmp_path: Path) -> None:
    async with connected(tmp_path) as (client, _):
        added = await call(client, "add_memory", text="Ada plays the cello.")

        async def read(uri: str) -> dict[str, Any]:
            [content] = (await client.read_resource(uri)).contents
            return json.loads(getattr(content, "text", ""))

        assert (await read("recollect://status"))["ready"] is True
        assert (await read(f"recollect://memories/{added['id']}"))["text"] == "Ada plays the cello."
        profile = await read("recollect://profiles/me")
        assert (profile["namespace"], profile["memories"], profile["kinds"]) == ("user/default", 1, {"semantic": 1})
        assert (await read("recollect://profiles/bob"))["memories"] == 0
        with pytest.raises(MCPError, match="no memory 'nothing'"):
            await read("recollect://memories/nothing")
        templates = (await client.list_resource_templates()).resource_templates
        assert {template.uri_template for template in templates} == {"recollect://memories/{id}", "recollect://profiles/{namespace}"}


async def test_prompts_begin_a_recall_and_an_end_of_session(tmp_path: Path) -> None:
    async with connected(tmp_path) as (client, _):
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["recall", "remember_conversation"]
        got = await client.get_prompt("recall", {"topic": "the deploy"})
        assert "search_memories for: the deploy" in getattr(got.messages[0].content, "text", "")


async def test_an_agent_that_rewrites_memory_is_announced_as_destructive(tmp_path: Path) -> None:
    async with connected(tmp_path, agents={"writing": "operations"}) as (client, _):
        tools = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
        assert getattr(tools["ask_agent"], "destructive_hint", None) is True


async def test_memories_are_added_found_and_deleted_and_http_sees_the_same(tmp_path: Path) -> None:
    async with connected(tmp_path) as (client, served):
        added = await call(client, "add_memory", text="Ada plays the cello.")
        found = await call(client, "search_memories", query="cello")
        assert [memory["id"] for memory in found["memories"]] == [added["id"]]
        over_http = (await served.http.get(f"/v1/memories/{added['id']}")).json()
        assert (over_http["text"], over_http["provenance"]["channel"]) == ("Ada plays the cello.", "mcp")
        assert (await call(client, "delete_memory", id=added["id"]))["deleted"] is True
        assert (await call(client, "search_memories", query="cello"))["memories"] == []


async def test_a_search_may_be_for_a_kind_and_for_tags(tmp_path: Path) -> None:
    async with connected(tmp_path) as (client, served):
        for name, more in (("a", {"tags": ["work", "music"]}), ("b", {"tags": ["work"], "kind": "episodic"}), ("c", {})):
            await served.http.post("/v1/memories", json={"text": "the cello", "id": name, **more})
        for asked, ids in (({"tags": ["work"]}, ["b", "a"]), ({"tags": ["work", "music"]}, ["a"]), ({"kind": "episodic"}, ["b"])):
            found = await call(client, "search_memories", query="cello", **asked)
            assert [memory["id"] for memory in found["memories"]] == ids


async def test_the_namespace_is_the_url_s_then_a_header_s_then_the_argument_s(tmp_path: Path) -> None:
    async with connected(tmp_path, prefix="/ns/carl") as (client, served):
        assert (await call(client, "add_memory", text="x", namespace="ada"))["namespace"] == "user/carl"
        url = f"{str(served.http.base_url).rstrip('/')}/mcp"
        async with Client(url) as plain:
            assert (await call(plain, "add_memory", text="x", namespace="ada"))["namespace"] == "user/ada"
            assert (await call(plain, "get_status"))["namespace"] == "user/default"
        async with (
            httpx2.AsyncClient(headers={"X-Memory-Scope": "dora"}) as http,
            Client(streamable_http_client(url, http_client=http)) as scoped,
        ):
            assert (await call(scoped, "add_memory", text="x", namespace="ada"))["namespace"] == "user/dora"


async def test_the_url_of_a_real_server_tells_a_name_from_two_parts(tmp_path: Path) -> None:
    async with connected(tmp_path, prefix="/ns/user/a%3Aagent%2Fb") as (client, served):
        assert (await call(client, "add_memory", text="x"))["namespace"] == "user/a%3Aagent%2Fb"
        assert (await served.http.get("/ns/user/a:agent/b/v1/memories")).json()["data"] == []
        assert len((await served.http.get("/ns/user/a%3Aagent%2Fb/v1/memories")).json()["data"]) == 1
        assert (await served.http.head("/health")).status_code == 200


async def test_an_agent_answers_and_its_trajectory_is_logged(tmp_path: Path) -> None:
    async with connected(tmp_path) as (client, served):
        added = await call(client, "add_memory", text="My sister's birthday is on 3 June.")
        answer = await call(client, "ask_agent", question="When is my sister's birthday?", session="s1")
        assert answer["memory_ids"] == [added["id"]]
        [logged] = await served.logged()
        assert (logged.trajectory.id, logged.trajectory.session) == (answer["trajectory_id"], "s1")
        given = await served.http.post("/v1/feedback", json={"id": answer["trajectory_id"], "label": "up"})
        assert given.status_code == 200


async def test_status_names_the_agents(tmp_path: Path) -> None:
    async with connected(tmp_path) as (client, _):
        status = await call(client, "get_status")
        assert status["ready"] is True
        assert status["agents"] == ["memory", "memory-r1", "reader", "rmm", "scripted"]


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("search_memories", {"query": " "}, "query is empty"),
        ("search_memories", {"query": "x", "limit": 1000}, "50"),
        ("search_memories", {}, "query is required"),
        ("search_memories", {"query": "x" * 100_001}, "query: String should have at most 100000 characters"),
        ("search_memories", {"query": "x", "limit": "3"}, "limit: Input should be a valid integer"),
        ("search_memories", {"query": "x", "limt": 3}, "unknown argument 'limt'; did you mean 'limit'?"),
        ("search_memories", {"query": "x", "kind": "magic"}, "kind: Input should be 'semantic', 'episodic' or 'procedural'"),
        ("search_memories", {"query": "x", "tags": "work"}, "tags: Input should be a valid list"),
        ("search_memories", {"query": ["x"]}, "query: Input should be a valid string"),
        ("search_memories", {"query": "x", "namespace": "A B/c"}, "namespace: 'A B/c' is no namespace: write it as user/42"),
        ("get_status", {"verbose": True}, "unknown argument 'verbose'"),
        ("add_memory", {"text": ""}, "text is empty"),
        ("add_memory", {"text": "x", "id": "../x"}, "a memory's id"),
        ("add_memory", {"text": "x", "namespace": "A B/c"}, "user/42"),
        ("add_memory", {"text": "x" * 32_769}, "text has 32769 characters, at most 32768"),
        ("delete_memory", {"id": "mem_1"}, "no memory 'mem_1'"),
        ("ask_agent", {"question": "x", "agent": "gpt-5"}, "agent: no model 'gpt-5'; this server has: memory, memory-r1, reader, rmm"),
        ("ask_agent", {"question": "x", "session": "a b"}, "session must be 1 to 128 printable"),
        ("ask_agent", {"question": "x" * 100_001}, "question: String should have at most 100000 characters"),
        ("ask_agent", {"question": "x", "document": 7}, "document: Input should be a valid string"),
        ("ask_agent", {"question": "x" * 9000}, "window is 8192; shorten question or document"),
    ],
)
async def test_a_bad_call_is_told_what_is_wrong(tmp_path: Path, tool: str, arguments: dict[str, Any], says: str) -> None:
    async with connected(tmp_path) as (client, _):
        told = await refusal(client, tool, **arguments)
        assert says in told
        assert "\n" not in told
        assert not any(name in told for name in ("metadata.", "messages", "max_tokens", "https://"))


async def test_another_text_under_a_known_id_names_the_argument(tmp_path: Path) -> None:
    async with connected(tmp_path) as (client, _):
        await call(client, "add_memory", text="Ada is 30.", id="age")
        told = await refusal(client, "add_memory", text="Ada is 31.", id="age")
        assert "id: memory 'age' exists with another text" in told
        assert "writes" not in told


async def test_a_text_that_is_json_stays_a_text(tmp_path: Path) -> None:
    async with connected(tmp_path) as (client, served):
        await call(client, "ask_agent", question="Who plays?", agent="memory", document='{"Ada": "cello"}')
        [logged] = await served.logged()
        assert [message.content for message in logged.trajectory.request] == ['{"Ada": "cello"}', "Who plays?"]


async def test_the_tools_say_that_they_take_no_other_arguments(tmp_path: Path) -> None:
    async with connected(tmp_path) as (client, _):
        tools = (await client.list_tools()).tools
        assert {tool.name: tool.input_schema["additionalProperties"] for tool in tools} == dict.fromkeys(TOOLS, False)


async def test_an_engine_that_is_away_is_told(tmp_path: Path) -> None:
    async with connected(tmp_path) as (client, served):
        served.engine.trouble.fail = EngineUnavailable("the engine is being started again")
        assert "the engine is being started again" in await refusal(client, "ask_agent", question="x")


async def test_a_client_of_the_older_revision_shakes_hands(served: Served) -> None:
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    answer = await served.http.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}, headers=headers)
    assert answer.json()["result"]["protocolVersion"] == "2025-11-25"
    call = {"name": "add_memory", "arguments": {"text": "Ada plays the cello."}}
    answer = await served.http.post("/mcp", json={"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}, headers=headers)
    assert answer.json()["result"]["structuredContent"]["text"] == "Ada plays the cello."


async def test_mcp_serves_memories_without_an_engine(tmp_path: Path) -> None:
    async with serving(tmp_path / "home", kind="none") as served:
        headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        call = {"name": "ask_agent", "arguments": {"question": "x"}}
        answer = await served.http.post("/mcp", json={"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}, headers=headers)
        result = answer.json()["result"]
        assert result["isError"]
        assert "engine.kind is none" in result["content"][0]["text"]
