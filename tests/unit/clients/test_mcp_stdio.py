"""`recollect mcp` before a real MCP client on stdio and a real MCP server on loopback HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp_types import TextContent, TextResourceContents

from clients.running import recorded_server

ROOT = Path(__file__).parents[3]


def end_all(home: Path) -> None:
    """End the servers that were started on a home."""
    starts = home / "starts"
    for pid in starts.read_text().split() if starts.exists() else ():
        end(int(pid))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home of the test's own."""
    yield tmp_path
    end_all(tmp_path)


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose server, once a shim has started it, serves the other tests too."""
    home = tmp_path_factory.mktemp("home")
    yield home
    end_all(home)


def end(pid: int) -> None:
    """Kill a process and wait until it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    for _ in range(500):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]:
            return
        time.sleep(0.01)


def shim(home: Path, **environ: str) -> StdioServerParameters:
    """How an editor starts the shim."""
    env = {"RECOLLECT_HOME": str(home), "PATH": os.environ["PATH"], **environ}
    return StdioServerParameters(command=sys.executable, args=["-m", "tests.unit.clients.shim"], env=env, cwd=ROOT)


def started(home: Path) -> int:
    return len((home / "starts").read_text().split())


async def told(client: Client, text: str) -> dict[str, object]:
    result = await client.call_tool("tell", {"text": text})
    assert not result.is_error
    assert result.structured_content is not None
    return result.structured_content


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_sees_what_the_server_offers_and_one_server_outlives_the_shims(shared_home: Path, mode: str) -> None:
    async with Client(shim(shared_home, RECOLLECT_API_KEY="k-1"), mode=mode) as client:
        assert client.server_info is not None
        assert (client.server_info.name, client.server_info.version) == ("small", "1.2")
        assert client.instructions == "Be brief."
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"tell", "slow", "fail", "vanish"}
        assert tools["tell"].output_schema is not None
        answer = await told(client, "hello")
        assert (answer["text"], answer["authorization"]) == ("hello", "Bearer k-1")
        failed = await client.call_tool("fail", {})
        assert failed.is_error
        assert isinstance(failed.content[0], TextContent)
        assert "no such memory" in failed.content[0].text
        [template] = (await client.list_resource_templates()).resource_templates
        assert template.uri_template == "notes://{name}"
        [content] = (await client.read_resource("notes://a")).contents
        assert isinstance(content, TextResourceContents)
        assert content.text == "note a"
        [prompt] = (await client.list_prompts()).prompts
        [message] = (await client.get_prompt(prompt.name, {"name": "Ann"})).messages
        assert isinstance(message.content, TextContent)
        assert message.content.text == "Greet Ann."
        with pytest.raises(MCPError, match="Unknown resource"):
            await client.read_resource("other://x")
        seen: list[tuple[float, float | None, str | None]] = []

        async def report(progress: float, total: float | None, message: str | None) -> None:
            seen.append((progress, total, message))

        result = await client.call_tool("slow", {}, progress_callback=report)
        assert result.structured_content == {"parts": 20}
        assert seen == [(part, 20, f"part {part}") for part in range(1, 21)]
    assert started(shared_home) == 1


async def test_two_windows_share_one_server_and_when_it_dies_they_start_one_again(home: Path) -> None:
    async with Client(shim(home)) as one, Client(shim(home)) as two:
        answers = await asyncio.gather(told(one, "one"), told(two, "two"))
        assert [answer["text"] for answer in answers] == ["one", "two"]
        [first] = {answer["pid"] for answer in answers}
        assert isinstance(first, int)
        with pytest.raises(MCPError, match="try again"):
            await one.call_tool("vanish", {})
        await asyncio.to_thread(end, first)
        [second] = {answer["pid"] for answer in await asyncio.gather(told(one, "three"), told(two, "four"))}
    assert started(home) == 2
    server = recorded_server(home)
    assert server is not None
    assert server.pid == second


async def test_two_windows_that_open_at_once_start_one_server(home: Path) -> None:
    async def window(text: str) -> object:
        async with Client(shim(home)) as client:
            return (await told(client, text))["pid"]

    assert len(set(await asyncio.gather(window("one"), window("two")))) == 1
    assert started(home) == 1


async def test_the_shim_ends_when_its_input_does(shared_home: Path) -> None:
    environ = {"RECOLLECT_HOME": str(shared_home), "PATH": os.environ["PATH"]}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.unit.clients.shim", stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, cwd=ROOT
    )
    output, _ = await asyncio.wait_for(process.communicate(b""), 30)
    assert process.returncode == 0
    assert output == b""


async def test_recollect_mcp_reaches_the_memories_of_the_server_that_runs(server_home: Path) -> None:
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "recollect", "--home", str(server_home), "mcp"], env={"PATH": os.environ["PATH"]}, cwd=ROOT
    )
    async with Client(command) as client:
        assert {"add_memory", "search_memories", "delete_memory"} <= {tool.name for tool in (await client.list_tools()).tools}
        added = await client.call_tool("add_memory", {"text": "Cy breeds owls", "namespace": "user/shim"})
        assert not added.is_error
        found = await client.call_tool("search_memories", {"query": "owls", "namespace": "user/shim"})
        assert found.structured_content is not None
        assert [memory["text"] for memory in found.structured_content["memories"]] == ["Cy breeds owls"]


async def test_a_server_that_cannot_start_is_one_clear_error(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "recollect", "--home", str(tmp_path), "mcp", "server.host=nowhere.invalid"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
        cwd=ROOT,
    )
    output, errors = await asyncio.wait_for(process.communicate(b""), 60)
    assert process.returncode == 1
    assert output == b""
    assert errors.startswith(b"error: recollect serve did not come up")
    assert b"server.host" in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(("profile", "setting"), [("delegate", b"delegation.file="), ("all", b"mcp.all=true")])
async def test_a_profile_that_the_server_does_not_offer_is_one_clear_error(server_home: Path, profile: str, setting: bytes) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "recollect", "--home", str(server_home), "mcp", "--profile", profile),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    output, errors = await asyncio.wait_for(process.communicate(b""), 60)
    assert (process.returncode, output) == (1, b"")
    assert errors.startswith(b"error: the server offers no profile")
    assert setting in errors
    assert len(errors.splitlines()) == 1
