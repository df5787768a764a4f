"""Traces over OTLP, at a real receiver: the tree of a request, what its spans tell, and that none tells what people wrote."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from recollect.errors import EngineUnavailable
from server.engines.scripted import ScriptedCall, ScriptedEngine, Trouble
from server.engines.upstream import OpenAIUpstream
from tests.api.conftest import Served, serving, until
from tests.api.delegating import delegating
from tests.api.live import listening
from tests.api.otlp import receiving
from tests.api.process import started, upstream

CANARY = "zebrafinch"
WARNING = "what was spent could not be written"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
ROUTE = "POST /v1/chat/completions"


async def asked(served: Served, text: str, **more: object) -> httpx.Response:
    body = {"model": "memory", "messages": [{"role": "user", "content": text}], "user": "ada", **more}
    return await served.http.post("/v1/chat/completions", json=body, headers=TRACEPARENT)


@asynccontextmanager
async def asking(url: str) -> AsyncGenerator[OpenAIUpstream]:
    engine = OpenAIUpstream(url, "stub")
    yield engine
    await engine.close()


def echoes(call: ScriptedCall) -> str:
    if "defect" in call.messages[-1].content:
        raise ValueError(call.messages[-1].content)
    return f"You said {CANARY}."


def decides(call: ScriptedCall) -> str:
    return "ADD My cat is called Miso." if call.messages[-1].content.endswith("Operations:") else "Noted."


async def test_the_tree_of_a_chat_request_goes_on_where_the_clients_trace_stands(tmp_path: Path) -> None:
    async with receiving() as otlp, serving(tmp_path, telemetry={"otlp_endpoint": otlp.url, "service_name": "mine"}) as served:
        answer = await served.http.post(
            "/v1/chat/completions",
            json={"model": "memory", "messages": [{"role": "user", "content": "My cat is called Miso."}], "max_tokens": 7},
            headers=TRACEPARENT,
        )
        trajectory = answer.json()["recollect"]["trajectory_id"]
        await otlp.flushed(served)
        assert otlp.tree(TRACE) == {
            ROUTE: "",
            "invoke_agent memory": ROUTE,
            "search_memory": "invoke_agent memory",
            "chat scripted": "invoke_agent memory",
            "create_memory": "invoke_agent memory",
            "remember memory": ROUTE,
        }
        root, agent, chat = otlp.named(ROUTE), otlp.named("invoke_agent memory"), otlp.named("chat scripted")
        searches = [span for span in otlp.spans if span.name == "search_memory"]  # for the answer, and whether it is known already
        assert [span.attributes["gen_ai.memory.record.count"] for span in searches] == [0, 0]
        assert root.parent_id == PARENT
        assert [root.kind, agent.kind, chat.kind, searches[0].kind] == ["server", "internal", "client", "internal"]
        assert root.attributes["http.route"] == "/v1/chat/completions"
        assert root.attributes["http.response.status_code"] == 200
        assert root.attributes["recollect.trajectory.id"] == agent.attributes["recollect.trajectory.id"] == trajectory
        assert root.attributes["recollect.request.id"] == answer.headers["x-request-id"]
        assert (agent.attributes["gen_ai.agent.name"], agent.attributes["gen_ai.operation.name"]) == ("memory", "invoke_agent")
        usage = answer.json()["usage"]
        told = {key: value for key, value in chat.attributes.items() if key != "gen_ai.response.time_to_first_chunk"}
        assert told == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "vllm",
            "gen_ai.request.model": "scripted",
            "gen_ai.request.max_tokens": 7,
            "gen_ai.response.model": "scripted",
            "gen_ai.response.finish_reasons": [answer.json()["choices"][0]["finish_reason"]],
            "gen_ai.usage.input_tokens": usage["prompt_tokens"],
            "gen_ai.usage.output_tokens": usage["completion_tokens"],
            "recollect.role": "answerer",
            "recollect.policy": "memory",
            "recollect.base_model": "scripted",
        }
        assert 0 < chat.attributes["gen_ai.response.time_to_first_chunk"] < 60
        assert otlp.named("create_memory").attributes["gen_ai.memory.record.count"] == 1
        assert otlp.named("remember memory").links == [agent.span_id]
        assert otlp.resources[0]["service.name"] == "mine"
        assert not [span for span in otlp.spans if span.failed or span.events or span.ended < span.begun]


async def test_memory_that_is_written_after_the_answer_is_in_the_requests_trace(tmp_path: Path) -> None:
    engine = ScriptedEngine(answer=decides)
    async with (
        receiving() as otlp,
        serving(tmp_path, engine, telemetry={"otlp_endpoint": otlp.url}, agents={"writing": "operations"}) as served,
    ):
        await asked(served, "My cat is called Miso.")
        await otlp.flushed(served)
        late = otlp.named("remember memory")
        below = {span.name for span in otlp.spans if span.parent_id == late.span_id}
        assert {"chat scripted", "create_memory"} <= below
        assert {span.trace_id for span in otlp.spans} == {TRACE}
        roles = sorted(span.attributes["recollect.role"] for span in otlp.spans if span.name == "chat scripted")
        assert roles == ["answerer", "updater"]


async def test_metrics_go_out_too_and_name_nobody(tmp_path: Path) -> None:
    async with receiving() as otlp, serving(tmp_path, telemetry={"otlp_endpoint": otlp.url}) as served:
        await asked(served, "My cat is called Miso.")
        await otlp.flushed(served)
        assert set(otlp.metrics) == {
            "gen_ai.client.operation.duration",
            "gen_ai.client.token.usage",
            "gen_ai.server.request.duration",
            "gen_ai.server.time_to_first_token",
        }
        tokens = {point["gen_ai.token.type"]: point for point in otlp.metrics["gen_ai.client.token.usage"]}
        assert tokens["input"]["sum"] == otlp.named("chat scripted").attributes["gen_ai.usage.input_tokens"]
        assert tokens["output"]["gen_ai.request.model"] == "scripted"
        [first] = otlp.metrics["gen_ai.server.time_to_first_token"]
        assert (first["gen_ai.request.model"], first["count"]) == ("memory", 1)
        assert "ada" not in json.dumps(otlp.metrics)


@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_that_people_wrote_is_sent_whatever_goes_wrong(tmp_path: Path, stream: bool) -> None:
    """The canary stands in messages, answers, memories, namespaces, ids, paths, tools, and in the texts of errors."""
    engine = ScriptedEngine(answer=echoes)
    async with receiving() as otlp, serving(tmp_path, engine, telemetry={"otlp_endpoint": otlp.url}) as served:
        http = served.http
        tools = [{"type": "function", "function": {"name": CANARY, "description": CANARY}}]
        for more in ({}, {"tools": tools}, {"metadata": {"session_id": CANARY}}, {"stop": [CANARY]}):
            answer = await asked(served, f"My cat is {CANARY}.", stream=stream, **{"user": CANARY, **more})
            assert answer.status_code == 200, answer.text
        await asked(served, f"A defect, {CANARY}.", stream=stream)
        for trouble in (Trouble(fail=EngineUnavailable(f"no {CANARY}")), Trouble(break_after=0)):
            engine.trouble = trouble
            await asked(served, f"Where is {CANARY}?", stream=stream)
        engine.trouble = Trouble()
        await asked(served, "x", model=CANARY)
        await http.post("/v1/memories", json={"text": CANARY, "id": CANARY, "user": CANARY})
        await http.post("/v1/memories", json={"text": f"another {CANARY}", "id": CANARY, "user": CANARY})
        await http.post("/v1/memories/search", json={"query": CANARY, "user": CANARY})
        for path in (f"/v1/memories/{CANARY}", f"/ns/user/{CANARY}/v1/models", f"/{CANARY}", f"/v1/models/{CANARY}?x={CANARY}"):
            await http.get(path, headers={"X-Memory-Scope": f"user/{CANARY}", "user-agent": CANARY, "baggage": f"a={CANARY}"})
        await http.request(CANARY.upper(), "/v1/models")
        await otlp.flushed(served)
        sent = b"".join(otlp.raw).lower()
        assert CANARY.encode() not in sent
        assert sum(span.failed for span in otlp.spans) >= 6
        assert {"chat scripted", "create_memory", "search_memory", "GET /v1/memories/{memory_id}"} <= {span.name for span in otlp.spans}
        assert {"EngineUnavailable", "ValueError"} <= {str(span.attributes.get("error.type")) for span in otlp.spans}


async def test_calls_of_tools_are_traced_under_their_request_without_arguments(tmp_path: Path) -> None:
    async with (
        receiving() as otlp,
        listening(tmp_path / "home", ScriptedEngine(), telemetry={"otlp_endpoint": otlp.url}) as served,
    ):
        url = f"{str(served.http.base_url).rstrip('/')}/mcp"
        async with (
            httpx2.AsyncClient(headers=TRACEPARENT) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            added = await client.call_tool("add_memory", {"text": f"My cat is {CANARY}."})
            assert not added.is_error
            assert (await client.call_tool("ask_agent", {"question": f"Who is {CANARY}?"})).structured_content
            assert (await client.call_tool("get_memory", {"id": CANARY})).is_error
            assert (await client.call_tool(CANARY, {})).is_error
        await otlp.flushed(served)
        assert CANARY.encode() not in b"".join(otlp.raw)
        by_id = {span.span_id: span for span in otlp.spans}
        asked, written = otlp.named("tools/call ask_agent"), otlp.named("tools/call add_memory")
        assert (asked.kind, asked.attributes["gen_ai.operation.name"], asked.attributes["gen_ai.tool.name"]) == (
            "server",
            "execute_tool",
            "ask_agent",
        )
        agent = otlp.named("invoke_agent memory")
        assert agent.parent_id == asked.span_id
        root = by_id[asked.parent_id]
        assert (root.name, root.parent_id, root.trace_id) == ("POST /mcp", PARENT, TRACE)
        assert root.attributes["recollect.trajectory.id"] == agent.attributes["recollect.trajectory.id"]
        assert {span.name for span in otlp.spans if span.parent_id == agent.span_id} == {"search_memory", "chat scripted", "create_memory"}
        assert [span.name for span in otlp.spans if span.parent_id == written.span_id] == ["create_memory"]
        assert otlp.named("tools/call get_memory").attributes["error.type"] == "tool_error"
        assert otlp.named("tools/call").failed


async def test_a_message_of_mcp_may_bring_a_trace_of_its_own(tmp_path: Path) -> None:
    other = "0af7651916cd43dd8448eb211c80319c"
    async with (
        receiving() as otlp,
        listening(tmp_path / "home", ScriptedEngine(), telemetry={"otlp_endpoint": otlp.url}) as served,
    ):
        async with Client(f"{str(served.http.base_url).rstrip('/')}/mcp") as client:
            await client.call_tool("add_memory", {"text": "x"}, meta={"traceparent": f"00-{other}-{PARENT}-01"})
        await otlp.flushed(served)
        tool = otlp.named("tools/call add_memory")
        assert (tool.trace_id, tool.parent_id) == (other, PARENT)
        assert otlp.named("create_memory").parent_id == tool.span_id
        [link] = tool.links
        assert next(span for span in otlp.spans if span.span_id == link).name == "POST /mcp"


async def test_the_engine_is_told_the_trace_and_its_address_stands_in_the_span(tmp_path: Path) -> None:
    heard: list[dict[str, str]] = []
    for on in (True, False):
        async with receiving() as otlp, upstream(heard) as url, asking(url) as engine:
            telemetry = {"otlp_endpoint": otlp.url} if on else {}
            async with listening(tmp_path / f"home-{on}", engine, telemetry=telemetry) as served:
                heard.clear()
                answer = await served.http.post(
                    "/v1/chat/completions",
                    json={"model": "memory", "messages": [{"role": "user", "content": "hello"}]},
                    headers=TRACEPARENT,
                )
                assert answer.status_code == 200, answer.text
                [call] = [headers for headers in heard if "content-length" in headers]
                if not on:
                    assert "traceparent" not in call
                    continue
                await otlp.flushed(served)
                chat = otlp.named("chat stub")
                assert call["traceparent"] == f"00-{TRACE}-{chat.span_id}-01"
                assert f"http://{chat.attributes['server.address']}:{chat.attributes['server.port']}" == url
                assert "server.address" not in otlp.named("invoke_agent memory").attributes


async def test_work_that_is_handed_on_is_traced_as_the_other_providers(tmp_path: Path) -> None:
    async with receiving() as otlp, delegating(tmp_path, lambda _: f"{CANARY}.", telemetry={"otlp_endpoint": otlp.url}) as place:
        await place.call("think", task=f"What is a {CANARY}?", use="house")
        await otlp.flushed(place.served)
        assert CANARY.encode() not in b"".join(otlp.raw)
        agent, chat = otlp.named("invoke_agent delegate/house/scripted"), otlp.named("chat scripted")
        assert (chat.parent_id, agent.parent_id) == (agent.span_id, otlp.named("tools/call think").span_id)
        assert chat.attributes["gen_ai.provider.name"] == "openai"
        assert chat.attributes["server.port"] > 0


async def test_a_receiver_of_traces_alone_gets_no_metrics(tmp_path: Path) -> None:
    async with receiving() as otlp, serving(tmp_path, telemetry={"otlp_endpoint": otlp.url, "metrics": False}) as served:
        await asked(served, "hello")
        await otlp.flushed(served)
        assert otlp.metrics == {}
        assert otlp.named(ROUTE)


async def test_as_many_requests_are_sampled_as_the_settings_say(tmp_path: Path) -> None:
    async with receiving() as otlp, serving(tmp_path, telemetry={"otlp_endpoint": otlp.url, "sample_ratio": 0}) as served:
        await served.ask("not sampled")
        await otlp.flushed(served)
        assert otlp.spans == []
        assert otlp.metrics["gen_ai.client.operation.duration"][0]["count"] == 1
        await asked(served, "the client sampled this one")
        await otlp.flushed(served)
        assert {span.trace_id for span in otlp.spans} == {TRACE}


async def test_a_receiver_that_is_away_or_refuses_disturbs_no_request_and_no_end(tmp_path: Path) -> None:
    async with receiving(status=400) as refusing:
        pass
    async with serving(tmp_path, telemetry={"otlp_endpoint": refusing.url}) as served:  # nobody listens there any more
        for _ in range(3):
            assert (await served.ask("hello"))["choices"]


async def test_log_lines_name_the_trace_and_the_settings_headers_are_sent(tmp_path: Path) -> None:
    key = "sekret-4711"
    async with receiving() as otlp:
        overrides = (
            "engine.kind=scripted",
            "embedder.kind=none",
            "server.log_format=json",
            f"telemetry.otlp_endpoint={otlp.url}",
            f"telemetry.headers={{authorization: Bearer {key}}}",
        )
        async with started(tmp_path / "home", *overrides) as server:
            (server.home / "usage.json").mkdir()  # what was spent cannot be written: the server warns of that
            async with httpx2.AsyncClient(base_url=server.url, timeout=60) as http:
                body = {"model": "memory", "messages": [{"role": "user", "content": "hello"}]}
                answer = await http.post("/v1/chat/completions", json=body, headers=TRACEPARENT)
                assert answer.status_code == 200
            await until(lambda: WARNING in server.log())
            (server.home / "usage.json").rmdir()
        lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
        [warned] = [line for line in lines if WARNING in line["message"]]
        assert warned["trace_id"] == TRACE
        assert warned["span_id"] in {span.span_id for span in otlp.spans}
        assert {headers.get("authorization") for headers in otlp.headers} == {f"Bearer {key}"}
        assert key not in server.log()
