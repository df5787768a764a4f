"""`recollect serve` as a process: how it starts, who owns a home, what it refuses, how it ends, how small it is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from recollect.settings import ServerSettings
from server.serve import listening_on
from tests.api.conftest import until
from tests.api.process import QUIET, ServerProcess, started, upstream

HEAVY = ("torch", "transformers", "trl", "peft", "vllm", "opentelemetry.sdk", "opentelemetry.exporter")
IMPORTED = """
import asyncio, sys
from recollect.memory import Namespace
from recollect.settings import Settings
from recollect.settings_read import parse
from server.app import create_app
async def main():
    app = create_app(parse(Settings, {"home": sys.argv[1], "engine": {"kind": "none"}, "embedder": {"kind": "none"}}))
    async with app.router.lifespan_context(app):
        await app.state.service.memories.add(Namespace(), "x", channel="api")
asyncio.run(main())
print(*[name for name in %r if name in sys.modules])
"""


async def run(*arguments: str, home: Path) -> tuple[int, str]:
    """Exit status and stderr of a `recollect serve` that is expected to end by itself."""
    command = [sys.executable, "-m", "recollect", "--home", str(home), "serve", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, stderr = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, stderr.decode()


async def test_a_server_announces_itself_owns_its_home_and_ends_in_order(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with started(home, *QUIET) as server:
        assert server.process is not None
        found = json.loads((home / "server.json").read_text())
        assert set(found) == {"pid", "url", "engine_url", "engine_urls", "token", "started_at"}
        assert found["pid"] == server.process.pid
        assert (home / "server.json").stat().st_mode & 0o077 == 0
        status, stderr = await run("server.port=0", *QUIET, home=home)
        assert status == 1
        assert f"a server runs on home {home} already (pid {server.process.pid}, {server.url})" in stderr.replace("\n", " ")
        assert await server.end(signal.SIGTERM) == 0
        assert not (home / "server.json").exists()
        assert "Traceback" not in server.log()


async def test_a_home_whose_server_was_killed_can_be_served_again(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "home", *QUIET)
    await server.start()
    server.kill()
    assert server.process is not None
    await server.process.wait()
    assert (tmp_path / "home" / "server.json").exists()
    async with started(tmp_path / "home", *QUIET):
        pass


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("server.host=0.0.0.0", "server.host"),
        ("server.host=nonsense", "server.host"),
        ("server.prot=8000", "did you mean 'server.port'"),
        ("server.port=[", "server.port"),
        ("engine.urls=[notaurl]", "engine.urls"),
        ("engine.kind=openai", "engine.model"),
        ("agents.prompts=nonsense", "prompt"),
    ],
)
async def test_a_wrong_setting_is_one_clear_error(tmp_path: Path, override: str, says: str) -> None:
    status, stderr = await run("server.port=0", *QUIET, override, home=tmp_path / "home")
    assert status == 1
    assert says in stderr
    assert "Traceback" not in stderr


async def test_a_model_path_that_is_missing_is_one_clear_error(tmp_path: Path) -> None:
    status, stderr = await run("server.port=0", "embedder.kind=none", f"engine.model={tmp_path}/nothing", home=tmp_path / "home")
    assert status == 1
    assert "engine.model" in stderr
    assert "Traceback" not in stderr


async def test_a_port_in_use_names_the_setting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, stderr = await run(f"server.port={taken.getsockname()[1]}", *QUIET, home=tmp_path / "home")
    assert status == 1
    assert "server.port" in stderr
    assert "Traceback" not in stderr


async def test_an_upstream_answers_through_the_process_and_a_stream_is_finished_before_the_end(tmp_path: Path) -> None:
    async with (
        upstream() as url,
        started(tmp_path / "home", "embedder.kind=none", "engine.kind=openai", "engine.model=stub", f"engine.urls=[{url}]") as server,
    ):
        body = {"model": "memory", "messages": [{"role": "user", "content": "hello there, old friend"}], "stream": True}
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=60) as http,
            http.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            lines = answer.aiter_lines()
            await anext(lines)
            ending = asyncio.create_task(server.end(signal.SIGTERM))
            rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert await ending == 0


async def test_listed_memories_cannot_steer_the_terminal(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with started(home, *QUIET) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            added = await http.post("/v1/memories", json={"text": "before \x1b[2J\x1b]0;owned\x07\x9b31m after"})
        assert added.status_code < 300
        for arguments in (("list",), ("search", "before")):
            command = [sys.executable, "-m", "recollect", "--home", str(home), "memory", *arguments]
            process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env={**os.environ, "COLUMNS": "120"})
            stdout, _ = await asyncio.wait_for(process.communicate(), 60)
            said = stdout.decode()
            assert "before [2J]0;owned31m after" in said
            assert not {"\x1b", "\x07", "\x9b"} & set(said)


def test_the_server_imports_no_torch_and_unasked_no_exporter(tmp_path: Path) -> None:
    script = IMPORTED % (HEAVY,)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []


async def test_an_idle_server_is_small(tmp_path: Path) -> None:
    async with started(tmp_path / "home", *QUIET) as server:
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        await until(lambda: process.cpu_percent(0.3) < 20)
        assert process.memory_info().rss <= 250 * 2**20


def test_answers_do_not_wait_for_acknowledgements() -> None:
    # asyncio switches Nagle's algorithm off only where the socket names its protocol; with it every answer takes 40 ms more.
    with listening_on(ServerSettings(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP
