"""No telemetry, and no address is reached that the settings do not name: a whole server, watched while it does its work.

Two watchers, because each sees what the other cannot. An audit hook sees every address and name that Python code asks for, and refuses
what is not configured; native code tells it nothing. strace, where it may be used, sees the system calls of all code, LanceDB's and
uvloop's too. Everywhere psutil looks at the sockets that are open, many times a second: one that lived for less may pass it.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from mcp import Client

from tests.api.conftest import until
from tests.api.otlp import receiving
from tests.api.process import ServerProcess, started, upstream

ELSEWHERE = {
    # None of these may be heeded: addresses that no network has (RFC 5737), so that nothing is reached if one is.
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://192.0.2.1:4318",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "*",
    "HTTP_PROXY": "http://192.0.2.2:3128",
    "HTTPS_PROXY": "http://192.0.2.2:3128",
    "ALL_PROXY": "http://192.0.2.2:3128",
    "NO_PROXY": "",
}
SCRIPTED = ("engine.kind=scripted", "embedder.kind=hash")
CALLS = ("connect", "sendto", "sendmsg", "sendmmsg")
_ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)"')


async def work(server: ServerProcess, model: str) -> None:
    """What a server is for: answers, memories, tools, vectors."""
    async with httpx.AsyncClient(base_url=server.url, timeout=120, trust_env=False) as http:
        for stream in (False, True):
            body = {"model": "memory", "messages": [{"role": "user", "content": "My cat is called Miso."}], "stream": stream}
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        assert (await http.post("/v1/responses", json={"model": "memory", "input": "Who is Miso?"})).status_code == 200
        assert model in (await http.get("/v1/models")).text
        assert (await http.post("/v1/memories", json={"text": "Miso is grey."})).status_code in (200, 201)
        assert (await http.post("/v1/memories/search", json={"query": "Miso"})).json()["data"]
        assert (await http.post("/v1/embeddings", json={"model": "default", "input": "Miso"})).status_code == 200
        assert (await http.get("/metrics")).status_code == 200
    async with Client(f"{server.url}/mcp") as client:
        assert not (await client.call_tool("search_memories", {"query": "Miso"})).is_error
        assert not (await client.call_tool("ask_agent", {"question": "Who is Miso?"})).is_error


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


@asynccontextmanager
async def looked_at(server: ServerProcess, allowed: set[int]) -> AsyncGenerator[set[str]]:
    """All peers that the process had while the block ran, other than its clients and what is allowed."""
    assert server.process is not None
    process, own = psutil.Process(server.process.pid), port_of(server.url)
    strangers: set[str] = set()

    def look() -> None:
        for one in [process, *process.children(recursive=True)]:
            for socket in one.net_connections("inet"):
                near, far = socket.laddr, socket.raddr
                known = near and near.port == own and (not far or far.ip == "127.0.0.1")
                if not known and not (far and far.ip == "127.0.0.1" and far.port in allowed):
                    strangers.add(str(socket))

    async def watch() -> None:
        while True:
            with suppress(psutil.NoSuchProcess):
                await asyncio.to_thread(look)
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield strangers
        assert not watching.done(), watching
    finally:
        watching.cancel()


def watched(tmp_path: Path, allowed: set[int]) -> dict[str, str]:
    """The variables of a process whose Python code is watched."""
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("watched.py"), folder / "sitecustomize.py")
    told = {"WATCHED_LOG": str(tmp_path / "watched.jsonl"), "WATCHED_ALLOWED": json.dumps(sorted(allowed))}
    return {**ELSEWHERE, **told, "PYTHONPATH": str(folder)}


@pytest.mark.parametrize("kind", ["scripted", "openai", "openai with telemetry"])
async def test_python_code_reaches_what_the_settings_name_and_asks_no_name_server(tmp_path: Path, kind: str) -> None:
    async with upstream() as url, receiving() as otlp:
        allowed: set[int] = set() if kind == "scripted" else {port_of(url)}
        overrides = (
            SCRIPTED if kind == "scripted" else ("engine.kind=openai", f"engine.urls=[{url}]", "engine.model=stub", "embedder.kind=hash")
        )
        if "telemetry" in kind:
            overrides = (*overrides, f"telemetry.otlp_endpoint={otlp.url}")
            allowed.add(port_of(otlp.url))
        async with started(tmp_path / "home", *overrides, environ=watched(tmp_path, allowed)) as server:
            async with looked_at(server, allowed) as strangers:
                await work(server, "scripted" if kind == "scripted" else "stub")
            assert strangers == set()
            assert await server.end() == 0, server.log()
        told = [json.loads(line) for line in (tmp_path / "watched.jsonl").read_text().splitlines()]
        assert told[0]["event"] == "watched"
        assert [one for one in told if not one["allowed"]] == []
        reached = {one["what"] for one in told if one["event"] == "socket.connect"}
        assert reached == {str(("127.0.0.1", port)) for port in allowed}
        assert bool(otlp.spans) == ("telemetry" in kind)


async def test_no_code_at_all_reaches_anything_else(tmp_path: Path) -> None:
    """With uvloop, as it is served: by the system calls where strace may be used, and by the sockets that psutil sees."""
    calls = tmp_path / "calls.log"
    # -D: the server stays this process's child; --seccomp-bpf: calls that are not asked for are not slowed down
    strace = ("strace", "-D", "-f", "-q", "--seccomp-bpf", f"--trace={','.join(CALLS)}", "-o", str(calls))
    under = strace if _may_trace(strace) else ()
    async with upstream() as url:
        allowed = {port_of(url)}
        overrides = ("engine.kind=openai", f"engine.urls=[{url}]", "engine.model=stub", "embedder.kind=hash")
        async with started(tmp_path / "home", *overrides, environ=ELSEWHERE, under=under) as server:
            async with looked_at(server, allowed) as strangers:
                await work(server, "stub")
            assert strangers == set()
            assert await server.end() == 0, server.log()
            assert server.process is not None
            ended = f"{server.process.pid} +++ exited with 0 +++"
        if under:
            await until(lambda: ended in re.sub(" +", " ", calls.read_text()))
            found = {(address, int(port)) for port, address in _ADDRESS.findall(calls.read_text())}
            assert found == {("127.0.0.1", port) for port in allowed}


def _may_trace(strace: tuple[str, ...]) -> bool:
    if shutil.which("strace") is None:
        return False
    tried = [*strace[: strace.index("-o")], "-o", "/dev/null", "true"]
    return subprocess.run(tried, capture_output=True, timeout=30, check=False).returncode == 0


def test_the_watcher_refuses_what_is_not_allowed(tmp_path: Path) -> None:
    """The watcher itself: what it let pass would prove nothing."""
    code = """
import socket, subprocess
for attempt in (
    lambda: socket.create_connection(("192.0.2.1", 80), 1),
    lambda: socket.getaddrinfo("example.org", 80),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
    lambda: subprocess.run(["true"]),
):
    try:
        attempt()
    except PermissionError as exc:
        print("refused:", exc)
"""
    environ = {**watched(tmp_path, set()), "PATH": "/usr/bin:/bin"}
    said = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.count("refused:") == 4, said
