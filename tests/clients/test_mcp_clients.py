"""The MCP Inspector and the protocol's conformance suite, over HTTP and over stdio."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette

from benchmarks.listening import listening
from tests.api.process import started
from tests.clients.conftest import CLIENTS, NODE, Place

pytestmark = pytest.mark.clients
SCENARIOS = ("server-initialize", "ping", "tools-list", "tools-call-error", "resources-list", "prompts-list")
"""Of the suite's server scenarios those that want no tool, resource or prompt of its own, and nothing that the protocol gave up."""


async def _inspect(place: Place, server: list[str], method: str, *arguments: str) -> dict[str, Any]:
    out = await place.run(NODE / "mcp-inspector", "--cli", *server, "--method", method, *arguments)
    return json.loads(out)


def _caller(place: Place, server: list[str]) -> tuple[Callable[..., Awaitable[dict[str, Any]]], set[str]]:
    """Calls a tool by the Inspector; and the names of those that were called."""
    called: set[str] = set()

    async def call(tool: str, **arguments: str) -> dict[str, Any]:
        called.add(tool)
        given = [part for name, value in arguments.items() for part in ("--tool-arg", f"{name}={value}")]
        answer = await _inspect(place, server, "tools/call", "--tool-name", tool, *given)
        assert not answer.get("isError"), answer
        return answer["structuredContent"]

    return call, called


def _server(place: Place, transport: str, profile: str) -> list[str]:
    if transport == "http":
        return [f"{place.url}{'' if profile == 'memory' else f'/{profile}'}/mcp", "--transport", "http"]
    return [sys.executable, "-m", "recollect", "--home", str(place.home), "mcp", "--profile", profile]


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_the_inspector_lists_and_calls_every_tool_on_memories(place: Place, transport: str) -> None:
    server = _server(place, transport, "memory")

    call, called = _caller(place, server)
    listed = {tool["name"] for tool in (await _inspect(place, server, "tools/list"))["tools"]}
    added = await call("add_memory", text="The deploy key lives in vault nine.")
    assert (await call("search_memories", query="deploy key"))["memories"][0]["id"] == added["id"]
    assert (await call("update_memory", id=added["id"], text="The deploy key lives in vault ten."))["text"].endswith("ten.")
    assert (await call("get_memory", id=added["id"]))["versions"] == 2
    answer = await call("ask_agent", question="Where does the deploy key live?")
    assert "vault ten" in answer["answer"]
    await call("send_feedback", trajectory_id=answer["trajectory_id"], label="up")
    assert (await call("delete_memory", id=added["id"]))["deleted"] is True
    assert (await call("get_status"))["ready"] is True
    assert called == listed


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_the_inspector_lists_and_calls_every_tool_on_documents(place: Place, transport: str) -> None:
    server = _server(place, transport, "documents")

    call, called = _caller(place, server)
    listed = {tool["name"] for tool in (await _inspect(place, server, "tools/list"))["tools"]}
    file_id = (await call("add_document", text="The dog is called Rex."))["file_id"]
    assert (await call("list_documents"))["documents"][0]["file_id"] == file_id
    reading = await call("read_document", question="What is the dog called?", file_id=file_id)
    assert reading["status"] == "done"
    assert (await call("get_reading", reading_id=reading["reading_id"]))["answer"] == reading["answer"]
    assert (await call("cancel_reading", reading_id=reading["reading_id"]))["status"] == "done"
    assert (await call("delete_document", file_id=file_id))["deleted"] is True
    assert (await call("get_status"))["ready"] is True
    assert called == listed


PLAN = """
allow: [think, see, agent_task, spawn_agent]
providers:
  peer: {{kind: openai, url: {url}, models: {{scripted: {{vision: true}}}}}}
  own: {{kind: agents, models: {{memory: {{}}}}}}
"""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_the_inspector_lists_and_calls_every_tool_that_hands_work_on(tmp_path: Path, transport: str) -> None:
    quiet = ("engine.kind=scripted", "embedder.kind=none")
    folder, file = tmp_path / "client", tmp_path / "delegation.yaml"
    folder.mkdir()
    async with started(tmp_path / "peer", *quiet, "engine.vision=true") as peer:
        file.write_text(PLAN.format(url=peer.url))
        async with started(tmp_path / "asking", *quiet, f"delegation.file={file}") as asking:
            place = Place(asking.url, asking.home, folder)
            server = _server(place, transport, "delegate")
            call, called = _caller(place, server)
            listed = {tool["name"] for tool in (await _inspect(place, server, "tools/list"))["tools"]}
            assert [model["ready"] for model in (await call("providers"))["models"]] == [True, True]
            assert (await call("think", task="Hello.", use="own"))["model"] == "own/memory"
            assert (await call("see", image=f"data:image/png;base64,{PIXEL}"))["model"] == "peer/scripted"
            assert (await call("agent_task", task="Hello.", use="peer"))["state"] == "done"
            worker_id = (await call("spawn_agent", description="greets", use="peer"))["worker_id"]
            await call("send_agent_input", worker_id=worker_id, text="Hello.")
            assert (await call("wait_agent", worker_id=worker_id))["state"] == "done"
            assert (await call("list_agents"))["workers"][0]["worker_id"] == worker_id
            assert (await call("close_agent", worker_id=worker_id))["state"] == "closed"
            assert (await call("get_status"))["ready"] is True
            assert called == listed


@asynccontextmanager
async def _shim(home: Path) -> AsyncGenerator[str]:
    """The server that `recollect mcp` runs, over HTTP instead of stdio, which the suite cannot speak."""
    import httpx2

    from clients.mcp_stdio import Upstream, proxy
    from recollect.settings import Settings

    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False))
        upstream = Upstream(Settings(home=home), http, ())
        async with upstream.connected() as client:
            server = proxy(upstream, client)
        guard = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        app: Starlette = server.streamable_http_app(stateless_http=True, json_response=True, transport_security=guard)
        yield await stack.enter_async_context(listening(app))


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_conformance(place: Place, transport: str, scenario: str) -> None:
    async with AsyncExitStack() as stack:
        url = place.url if transport == "http" else await stack.enter_async_context(_shim(place.home))
        await _conforms(place, url, scenario)


async def test_conformance_of_the_guard_against_rebinding(place: Place) -> None:
    await _conforms(place, place.url, "dns-rebinding-protection")


async def _conforms(place: Place, url: str, scenario: str) -> None:
    node = next((CLIENTS / "node" / "node_modules").glob("node-linux-*/bin/node"))
    out = await place.run(node, NODE / "conformance", "server", "--url", f"{url}/mcp", "--scenario", scenario)
    assert "0 failed" in out, out
    assert "Passed: 0/" not in out, out
