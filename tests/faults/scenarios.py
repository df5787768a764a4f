"""Faults under load: what was done, what clients saw, what was lost of what they had been promised."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import time_machine

from benchmarks.listening import listening
from server.engines.scripted import ScriptedEngine
from tests.api.acknowledged import lost
from tests.api.conftest import until
from tests.api.live import listening as live
from tests.api.process import ServerProcess, started
from tests.faults.load import Load
from tests.faults.upstream import Manner, Upstream

ENOUGH = 12
"""Good answers before, after, and troubles while something is wrong."""
QUIET = ("embedder.kind=none", "agents.prompts=compact")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the table."""

    fault: str
    done: str
    good: int
    seen: Counter[str] = field(default_factory=Counter[str])
    acknowledged: int = 0
    lost: Sequence[str] = ()


def at(url: str) -> tuple[str, ...]:
    """The settings of a server whose engine is an upstream."""
    return (*QUIET, "engine.kind=openai", "engine.model=stub", f"engine.urls=[{url}]", "engine.request_timeout_s=1")


async def _outcome(fault: str, done: str, load: Load, url: str, *homes: Path, repeats: bool = True) -> Outcome:
    missing = await lost(url, list(homes), load.acknowledged, repeats=repeats)
    return Outcome(fault, done, load.good, load.seen, len(load.acknowledged), missing)


@asynccontextmanager
async def _upstream_process(port: int) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.faults.upstream", str(port))
    try:
        async with httpx.AsyncClient() as http:
            await until(lambda: _answers(http, f"http://127.0.0.1:{port}/v1/models"))
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).status_code == 200
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


async def engine_killed(folder: Path) -> list[Outcome]:
    """The upstream's process is killed amid answers, and started again."""
    port = _free_port()
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(_upstream_process(port))
        server = await stack.enter_async_context(started(folder / "home", *at(f"http://127.0.0.1:{port}")))
        load = Load([server.url])
        async with load.running():
            await load.answers(ENOUGH)
            process.kill()
            await load.troubles(ENOUGH)
            async with _upstream_process(port):
                await load.answers(ENOUGH)
        return [await _outcome("engine killed", "kill -9 of the upstream, started again", load, server.url, server.home)]


async def vllm_killed(folder: Path) -> list[Outcome]:
    """The core of vLLM, a child of the server, is killed amid answers; the server starts it again by itself."""
    async with started(folder / "home", *QUIET, "engine.kind=vllm", "engine.max_model_len=2048") as server:
        load = Load([server.url])
        assert server.process is not None
        async with load.running():
            await load.answers(ENOUGH)
            below = psutil.Process(server.process.pid).children(recursive=True)
            next(one for one in below if "EngineCore" in " ".join(one.cmdline())).kill()
            await load.troubles(4)
            await server.ready()
            await load.answers(ENOUGH)
        done = "kill -9 of vLLM's core; the server starts it again"
        return [await _outcome("engine killed", done, load, server.url, server.home, repeats=False)]


LIES: tuple[tuple[Manner, str, str], ...] = (
    ("slow", "engine slow", "it takes longer than engine.request_timeout_s"),
    ("truncated", "engine lies: cut off", "answers and streams end in the middle"),
    ("not json", "engine lies: no JSON", "half of a JSON text"),
    ("wrong json", "engine lies: other JSON", "JSON of another form, with the right status"),
    ("nothing", "engine lies: nothing", "an empty body, with the right status"),
    ("failing", "engine fails", "it answers 500"),
)


async def engine_lies(folder: Path) -> list[Outcome]:
    """The upstream answers in a wrong manner for a while, in one after the other."""
    upstream, outcomes = Upstream(), list[Outcome]()
    async with listening(upstream.app) as url, started(folder / "home", *at(url)) as server:
        for number, (manner, fault, done) in enumerate(LIES):
            load = Load([server.url], first=number * 100_000)
            async with load.running():
                await load.answers(ENOUGH)
                upstream.manner = manner
                await load.troubles(ENOUGH // 2)
                upstream.manner = "well"
                await load.answers(ENOUGH)
            outcomes.append(await _outcome(fault, done, load, server.url, server.home))
    return outcomes


async def embedder_down(folder: Path) -> list[Outcome]:
    """The embeddings endpoint fails for a while."""
    upstream = Upstream()
    async with listening(upstream.app) as url:
        endpoint = ("embedder.kind=endpoint", f"embedder.url={url}/v1", "embedder.model=stub")
        async with started(folder / "home", *at(url), *endpoint) as server:
            load = Load([server.url])
            async with load.running():
                await load.answers(ENOUGH)
                upstream.embeds = False
                await load.troubles(ENOUGH // 2)
                upstream.embeds = True
                await load.answers(ENOUGH)
            return [await _outcome("embedder down", "the embeddings endpoint answers 500 for a while", load, server.url, server.home)]


async def disk_full(folder: Path) -> list[Outcome]:
    """No file can grow for a while, as on a full disk."""
    upstream = Upstream()
    async with listening(upstream.app) as url, started(folder / "home", *at(url)) as server:
        assert server.process is not None
        load = Load([server.url])
        async with load.running():
            await load.answers(ENOUGH)
            soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, hard))
            await load.troubles(ENOUGH)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
            await load.answers(ENOUGH)
        return [await _outcome("disk full", "no file may grow (RLIMIT_FSIZE) for a while", load, server.url, server.home)]


async def clock_jumps(folder: Path) -> list[Outcome]:
    """The wall clock jumps a day ahead and a day back, in the server's own process."""
    async with live(folder / "home", ScriptedEngine(piece_tokens=16)) as served:
        url = str(served.http.base_url).rstrip("/")
        load = Load([url])
        async with load.running():
            await load.answers(ENOUGH)
            for days in (1, -1):
                with time_machine.travel(datetime.now(UTC) + timedelta(days=days), tick=True):
                    await load.answers(ENOUGH)
            await load.answers(ENOUGH)
        return [await _outcome("clock jump", "a day ahead, a day back, and right again", load, url, served.home)]


async def ended_under_load(folder: Path) -> list[Outcome]:
    """SIGTERM amid answers; the server is started again."""
    upstream = Upstream()
    async with listening(upstream.app) as url:
        server = ServerProcess(folder / "home", *at(url))
        await server.start()
        await server.ready()
        load = Load([server.url])
        async with load.running():
            await load.answers(ENOUGH)
            status = await server.end(signal.SIGTERM)
        assert status == 0, server.log()
        async with started(folder / "home", *at(url)) as again:
            return [await _outcome("SIGTERM under load", "the server is asked to end, and started again", load, again.url, again.home)]


async def two_servers(folder: Path) -> list[Outcome]:
    """Two servers on one store, of which one is killed."""
    upstream = Upstream()
    shared = f"memory.uri={folder / 'shared'}"
    for name in ("a", "b"):
        (folder / name).mkdir()
    async with listening(upstream.app) as url, started(folder / "a" / "home", *at(url), shared) as first:
        second = ServerProcess(folder / "b" / "home", *at(url), shared)
        await second.start()
        await second.ready()
        load = Load([first.url, second.url])
        async with load.running():
            await load.answers(2 * ENOUGH)
            second.kill()
            load.urls = [first.url]
            await load.answers(ENOUGH)
        assert second.process is not None
        await second.process.wait()
        found = await _outcome(
            "two servers on one store", "both write the same users, kill -9 of one", load, first.url, first.home, second.home
        )
        return [found]


SCENARIOS: dict[str, Callable[[Path], Awaitable[list[Outcome]]]] = {
    "engine killed": engine_killed,
    "engine lies": engine_lies,
    "embedder down": embedder_down,
    "disk full": disk_full,
    "clock jump": clock_jumps,
    "ended under load": ended_under_load,
    "two servers": two_servers,
}
