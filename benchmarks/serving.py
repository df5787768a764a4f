"""What this server costs a request, against the least that could stand in its place and against LiteLLM's proxy, over a stub upstream.

Closed loop: clients that wait for each answer; answers a second. Open loop: 50 requests a second to a stub that takes 200 ms; what is
added. Every server is a process of its own; the load is made in this one. Memories are searched by full text alone, and each turn is kept.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.figure import Figure
from benchmarks.http_load import Load, asked, closed_loop, open_loop
from benchmarks.scale import scaled
from benchmarks.started import ROOT, recollect, started

LITELLM = ROOT / ".venvs" / "peers" / "bin" / "litellm"
CLIENTS = (1, 8, 32, 128)
RATE, DELAY_S = 50.0, 0.2
OFF, OURS, LEAST = "Recollect, memory off", "Recollect, memory on", "FastAPI + httpx"


class Way(NamedTuple):
    """How the stub is reached."""

    name: str
    model: str = "stub"
    memory: str | None = None

    def body(self, *, stream: bool) -> bytes:
        """A request of this way."""
        more: dict[str, Any] = {"metadata": {"memory": self.memory}} if self.memory else {}
        return asked(self.model, stream=stream, **more)


async def run() -> list[Figure]:
    """Each way in turn, so that no two servers run at once besides the stub."""
    figures: list[Figure] = []
    seconds = scaled(5, 1)
    rates: dict[tuple[str, bool, int], float] = {}
    async with started("-m", "benchmarks.stub", "{port}") as stub:
        async for way, url in _ways(stub.url):
            for stream in (False, True):
                for clients in CLIENTS:
                    load = await closed_loop(url, way.body(stream=stream), clients=clients, seconds=seconds)
                    rates[way.name, stream, clients] = load.rate
                    print(f"  {way.name}, {_form(stream)}, {clients}: {load.rate:.0f}/s", file=sys.stderr, flush=True)
    for name in dict.fromkeys(name for name, _, _ in rates):
        for stream in (False, True):
            values = ", ".join(f"{rates[name, stream, clients]:.0f}" for clients in CLIENTS)
            figures.append(Figure(f"{name}, {_form(stream)}: answers/s by {', '.join(map(str, CLIENTS))} clients", values))
    figures += _ratios(rates, OFF, LEAST, "1") + _ratios(rates, OFF, "LiteLLM", "4")
    return figures + await _open(scaled(30, 2))


async def _open(seconds: int) -> list[Figure]:
    """What each way adds to an answer, at its median and its 99th percentile."""
    figures: list[Figure] = []
    async with started("-m", "benchmarks.stub", "{port}", str(DELAY_S)) as stub:
        for stream in (False, True):
            alone = await open_loop(stub.url, Way("stub").body(stream=stream), rate=RATE, seconds=seconds)
            figures.append(Figure(f"open loop, stub, {_form(stream)}", _times(alone)))
            async for way, url in _ways(stub.url):
                if way.name == "stub":
                    continue
                load = await open_loop(url, way.body(stream=stream), rate=RATE, seconds=seconds)
                added = [1e3 * (np.percentile(load.seconds, part) - np.percentile(alone.seconds, part)) for part in (50, 99)]
                wanted = "p50 3 ms, p99 10 ms" if way.name == OFF else ""
                figures.append(Figure(f"{way.name}, {_form(stream)}: added", f"p50 {added[0]:.2f} ms, p99 {added[1]:.2f} ms", wanted))
    return figures


async def _ways(stub: str) -> AsyncGenerator[tuple[Way, str]]:
    yield Way("stub"), stub
    for kind, name in (("asgi", "raw ASGI + aiohttp"), ("fastapi", LEAST)):
        async with started("-m", "benchmarks.pass_through", kind, "{port}", stub) as server:
            yield Way(name), server.url
    if LITELLM.exists():
        async with _litellm(stub) as url:
            yield Way("LiteLLM"), url
    for way in (Way(OFF, "memory", "off"), Way(OURS, "memory")):
        with tempfile.TemporaryDirectory() as home:
            async with recollect(home, stub) as server:
                yield way, server.url


@asynccontextmanager
async def _litellm(stub: str) -> AsyncGenerator[str]:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(
            f"model_list:\n- model_name: stub\n  litellm_params: {{model: openai/stub, api_base: {stub}/v1, api_key: none}}\n"
            "litellm_settings: {telemetry: false}\n"
            "general_settings: {dangerously_permit_weak_or_unset_master_key: true}\n",
            "utf-8",
        )
        arguments = ("--config", str(config), "--port", "{port}", "--host", "127.0.0.1")
        async with started(*arguments, program=LITELLM, path="/health/readiness") as server:
            yield server.url


def _ratios(rates: dict[tuple[str, bool, int], float], ours: str, theirs: str, wanted: str) -> list[Figure]:
    found: list[Figure] = []
    for stream in (False, True):
        of: Sequence[float] = [
            rates[ours, stream, clients] / rates[theirs, stream, clients] for clients in CLIENTS if (theirs, stream, clients) in rates
        ]
        if of:
            told = ", ".join(f"{ratio:.2f}" for ratio in of)
            found.append(Figure(f"{ours} over {theirs}, {_form(stream)}", told, f"at least {wanted}"))
    return found


def _form(stream: bool) -> str:
    return "20 chunks" if stream else "plain"


def _times(load: Load) -> str:
    return f"p50 {np.percentile(load.seconds, 50) * 1e3:.2f} ms, p99 {np.percentile(load.seconds, 99) * 1e3:.2f} ms"
