"""MCP at `/mcp` with the real client: the tools, what they say of themselves, and their errors."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from recollect.errors import EngineUnavailable
from server.engines.scripted import ScriptedEngine
from tests.api.conftest import Served, serving
from tests.api.live import listening

TOOLS = ["search_memories", "add_memory", "delete_memory", "ask_agent", "get_status"]


@asynccontextmanager
async def connected(tmp_path: Path, *, prefix: str = "", **sections: dict[str, Any]) -> AsyncGenerator[tuple[Client, Served]]:
    async with listening(tmp_path / "home", ScriptedEngine(), **sections) as served:
        url = str(served.http.base_url).rstrip("/")
        async with Client(f"{url}{prefix}/mcp") as client:
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


async def test_the_tools_are_annotated_structured_and_short(tmp_path: Path) -> None:
    async with connected(tmp_path) as (client, _):
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == TOOLS
        for tool in tools:
            assert tool.title
            assert tool.description
            assert tool.output_schema
            hints = tool.annotations
            assert hints is not None
            assert hints.open_world_hint is False
            assert None not in (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.title)
        assert {tool.name for tool in tools if tool.annotations and tool.annotations.read_only_hint} == {"search_memories", "get_status"}
        assert {tool.name for tool in tools if tool.annotations and tool.annotations.destructive_hint} == {"delete_memory"}
        text = json.dumps([tool.model_dump(mode="json", exclude_none=True) for tool in tools])
        assert len(text) / 4 < 2_500, "more than 2,500 tokens, at four characters each"


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
