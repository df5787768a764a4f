"""Claude Code and Codex, unchanged: with our models at their own protocols, and with our memory as their tools."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from mcp import Client

from tests.api.process import started
from tests.clients.conftest import NODE, ROOT, Place

pytestmark = pytest.mark.clients
FACT, QUESTION = "The deploy key lives in vault nine.", "Where does the deploy key live?"
OURS = "mcp__recollect__add_memory,mcp__recollect__search_memories"


async def _claude(place: Place, text: str, *more: str | Path, model: str) -> str:
    env = {
        "ANTHROPIC_BASE_URL": place.url,
        "ANTHROPIC_AUTH_TOKEN": "none",
        "ANTHROPIC_MODEL": model,
        # Titles and the like are asked of the base model, which remembers nothing.
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "scripted",
        "ANTHROPIC_SMALL_FAST_MODEL": "scripted",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    return await place.run(NODE / "claude", "-p", text, *more, env=env)


async def test_claude_code_as_a_model_client(place: Place) -> None:
    await _claude(place, FACT, model="memory")
    assert await place.memories() == [FACT]
    assert FACT in await _claude(place, QUESTION, model="memory")


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_claude_code_with_our_tools(place: Place, transport: str) -> None:
    stdio = {"type": "stdio", "command": sys.executable, "args": ["-m", "recollect", "--home", str(place.home), "mcp"]}
    server = {"type": "http", "url": f"{place.url}/mcp"} if transport == "http" else stdio
    config = place.folder / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"recollect": server}}))
    more = ("--mcp-config", config, "--strict-mcp-config", "--allowedTools", OURS)
    await _claude(place, FACT, *more, model="scripted")
    assert await place.memories() == [FACT]
    assert FACT in await _claude(place, QUESTION, *more, model="scripted")


CODEX = """
model = "{model}"
model_provider = "recollect"
[model_providers.recollect]
name = "Recollect"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "RECOLLECT_API_KEY"
"""
CODEX_HTTP = """
[mcp_servers.recollect]
url = "{url}/mcp"
default_tools_approval_mode = "approve"
"""
CODEX_STDIO = """
[mcp_servers.recollect]
command = "{python}"
args = ["-m", "recollect", "--home", "{home}", "mcp"]
required = true
default_tools_approval_mode = "approve"
"""


async def _codex(place: Place, text: str) -> str:
    more = {"CODEX_HOME": str(place.folder / "codex"), "RECOLLECT_API_KEY": "none"}
    return await place.run(NODE / "codex", "exec", "--skip-git-repo-check", text, env=more)


def _configure(place: Place, *sections: str, model: str) -> None:
    folder = place.folder / "codex"
    folder.mkdir()
    text = "".join((CODEX, *sections)).format(model=model, url=place.url, home=place.home, python=sys.executable)
    (folder / "config.toml").write_text(text)


async def test_codex_as_a_model_client(place: Place) -> None:
    _configure(place, model="memory")
    await _codex(place, FACT)
    assert await place.memories() == [FACT]
    assert FACT in await _codex(place, QUESTION)


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_codex_with_our_tools(place: Place, transport: str) -> None:
    _configure(place, CODEX_HTTP if transport == "http" else CODEX_STDIO, model="scripted")
    await _codex(place, FACT)
    assert await place.memories() == [FACT]
    assert FACT in await _codex(place, QUESTION)


async def _connected(place: Place, client: str, *more: str, **env: str) -> str:
    command = (sys.executable, "-m", "recollect", "--home", str(place.home), "connect", client, "--model", "memory", *more)
    return await place.run(*command, env={"PYTHONPATH": str(ROOT), **env})


async def test_claude_code_as_connect_sets_it_up(place: Place) -> None:
    told = await _connected(place, "claude-code", "--user")
    assert "8 tools over stdio" in told
    assert "models at" in told
    quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    listed = await place.run(NODE / "claude", "mcp", "list", env=quiet)
    assert "recollect" in listed
    assert "Connected" in listed
    await place.run(NODE / "claude", "-p", FACT, env=quiet)
    assert FACT in await place.run(NODE / "claude", "-p", QUESTION, env=quiet)


async def test_codex_as_connect_sets_it_up(place: Place) -> None:
    env = {"CODEX_HOME": str(place.folder / "codex"), "RECOLLECT_API_KEY": "none"}
    assert "8 tools over stdio" in await _connected(place, "codex", **env)
    run = (NODE / "codex", "exec", "--skip-git-repo-check")
    await place.run(*run, FACT, env=env)
    assert FACT in await place.run(*run, QUESTION, env=env)


PLAN = """
allow: [think, agent_task, spawn_agent]
providers:
  codex:
    kind: codex
    command: {command}
    folders: [{folder}]
    environment: [CODEX_HOME, RECOLLECT_API_KEY]
    models: {{memory: {{}}}}
"""


async def test_codex_is_asked_by_delegation_and_goes_on_after_a_restart(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _configure(place, model="memory")
    monkeypatch.setenv("CODEX_HOME", str(place.folder / "codex"))
    monkeypatch.setenv("RECOLLECT_API_KEY", "none")
    file = tmp_path / "delegation.yaml"
    file.write_text(PLAN.format(command=NODE / "codex", folder=place.folder))
    overrides = ("engine.kind=none", "embedder.kind=none", f"delegation.file={file}")
    async with started(tmp_path / "asking", *overrides) as server, Client(f"{server.url}/delegate/mcp") as client:
        thought = (await client.call_tool("think", {"task": FACT})).structured_content
        assert thought is not None
        assert await place.memories() == [FACT]
        spawned = (await client.call_tool("agent_task", {"task": QUESTION, "wait_s": 50.0})).structured_content
        assert spawned is not None
        assert FACT in spawned["answer"]
    async with started(tmp_path / "asking", *overrides) as server, Client(f"{server.url}/delegate/mcp") as client:
        await client.call_tool("send_agent_input", {"worker_id": spawned["worker_id"], "text": QUESTION})
        again = (await client.call_tool("wait_agent", {"worker_id": spawned["worker_id"], "wait_s": 50.0})).structured_content
        assert again is not None
        assert (again["state"], FACT in again["answer"]) == ("done", True)
