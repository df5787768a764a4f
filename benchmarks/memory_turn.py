"""What memory adds to the time to the first token: a user with 10,000 memories, a local embedder, a stub upstream that streams at once.

Each request asks something else, is searched for and kept. Off, on and the stub itself are asked in turns, so that what else the machine
does hits all alike: by one client, and by eight at once.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np
from rich.progress import track

from benchmarks.figure import Figure, p50_p95
from benchmarks.http_load import ask, asked, session
from benchmarks.load import STDERR, namespace, writes
from benchmarks.scale import number, scaled
from benchmarks.sentences import questions, statements
from benchmarks.started import recollect, started
from benchmarks.stub import WORDS
from memory_store.embedders.base import Embedder
from memory_store.embedders.choose import choose
from memory_store.store import LanceMemoryStore
from recollect.settings import EmbedderSettings

RECORDS = 10_000
USER = "bench"
REQUESTS = 500
"""Of each way, by one client; by eight together twice as many."""
TURN = 5
"""Requests of one way by each client before the next way has its turn."""
WARM_UP = 20
BATCH = 1_000
FIRST_WORD = WORDS[0].encode()
ON, OFF, STUB = "memory on", "memory off", "the stub itself"


class Way(NamedTuple):
    """Where a question is sent, and as what."""

    url: str
    body: Callable[[str], bytes]


async def run() -> list[Figure]:
    """Fill, serve, ask."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        embedder = await choose(EmbedderSettings(), home)
        await fill(home, embedder, statements(scaled(RECORDS)))
        async with started("-m", "benchmarks.stub", "{port}") as stub, recollect(home, stub.url, "embedder.kind=auto") as ours:
            ways = {
                ON: Way(ours.url, lambda text: asked("memory", stream=True, text=text, user=USER)),
                OFF: Way(ours.url, lambda text: asked("memory", stream=True, text=text, user=USER, metadata={"memory": "off"})),
                STUB: Way(stub.url, lambda text: asked("stub", stream=True, text=text)),
            }
            figures = [Figure("memories, embedder", f"{number(scaled(RECORDS))}, {embedder.id if embedder else 'none: full text alone'}")]
            for clients in (1, 8):
                count = scaled(REQUESTS if clients == 1 else 2 * REQUESTS, 3 * TURN * clients)
                texts = questions(count + WARM_UP, seed=clients)
                figures += _told(await _in_turns(ways, texts, clients), clients)
    return figures


async def fill(home: Path, embedder: Embedder | None, texts: Sequence[str], *, user: str = USER) -> None:
    """Make them memories of a user of this home."""
    store = LanceMemoryStore(str(home / "memory"), embedder)
    starts = range(0, len(texts), BATCH)
    for start in track(starts, "writing memories", console=STDERR, transient=True):
        await store.apply(namespace(user), writes(texts[start : start + BATCH], start))
    await store.close()


async def _in_turns(ways: dict[str, Way], texts: list[str], clients: int) -> dict[str, np.ndarray]:
    """Seconds to the first word of each request, by way. The first texts warm up."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    order = deque(ways.items())
    async with session() as http:
        for way in ways.values():
            await _some(http, way, texts[:WARM_UP], clients)
        for start in range(WARM_UP, len(texts), TURN * clients):
            for name, way in order:
                found[name] += await _some(http, way, texts[start : start + TURN * clients], clients)
            order.rotate()  # each way comes after each: what is tidied after writes is no other way's burden alone
    return {name: np.array(seconds) for name, seconds in found.items()}


async def _some(http: aiohttp.ClientSession, way: Way, texts: Sequence[str], clients: int) -> list[float]:
    left, taken = iter(texts), list[float]()

    async def client() -> None:
        for text in left:
            taken.append((await ask(http, way.url, way.body(text), mark=FIRST_WORD))[1])

    await asyncio.gather(*(client() for _ in range(clients)))
    return taken


def _told(seconds: dict[str, np.ndarray], clients: int) -> list[Figure]:
    who = f"{clients} client{'s' if clients > 1 else ''}"
    figures = [Figure(f"{who}, time to the first word, {name}", p50_p95(taken)) for name, taken in seconds.items()]
    for than in (OFF, STUB):
        added = [1e3 * (np.percentile(seconds[ON], part) - np.percentile(seconds[than], part)) for part in (50, 95)]
        wanted = "p50 15 ms, p95 40 ms" if than == OFF else ""
        figures.append(Figure(f"{who}, memory on adds to {than}", f"p50 {added[0]:.2f} ms, p95 {added[1]:.2f} ms", wanted))
    return figures
