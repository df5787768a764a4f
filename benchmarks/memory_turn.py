"""What memory adds to the time to the first word: users with 10,000 memories each, a local embedder, a stub upstream that streams at once.

Each request asks something else, is searched for and kept. Off, on and the stub itself are asked in turns, so that what else the machine
does hits all alike: by one client, by eight of as many users, and by eight of one user, whose turns are written one after another.
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
from memory_store.embedders.cached import CachedEmbedder
from memory_store.embedders.choose import choose
from memory_store.store import LanceMemoryStore
from recollect.settings import EmbedderSettings

RECORDS = 10_000
USERS = [f"bench-{number}" for number in range(8)]
TURN = 25
"""Requests of one way by each client before the next way has its turn. The first is not counted: all clients begin at once."""
TURNS = {1: 20, 8: 6}
"""Of each way, by the number of clients."""
BATCH = 1_000
FIRST_WORD = WORDS[0].encode()
ON, OFF, STUB = "memory on", "memory off", "the stub itself"


class Way(NamedTuple):
    """Where a question of a user is sent, and as what."""

    url: str
    body: Callable[[str, str], bytes]


async def run() -> list[Figure]:
    """Fill, serve, ask."""
    with tempfile.TemporaryDirectory() as place:
        home, said = Path(place), statements(scaled(RECORDS))
        embedder = await choose(EmbedderSettings(), home)
        await fill(home, embedder, said, USERS)
        async with started("-m", "benchmarks.stub", "{port}") as stub, recollect(home, stub.url, "embedder.kind=auto") as ours:
            ways = {
                ON: Way(ours.url, lambda text, user: asked("memory", stream=True, text=text, user=user)),
                OFF: Way(ours.url, lambda text, user: asked("memory", stream=True, text=text, user=user, metadata={"memory": "off"})),
                STUB: Way(stub.url, lambda text, _: asked("stub", stream=True, text=text)),
            }
            figures = [
                Figure("memories of a user, embedder", f"{number(len(said))}, {embedder.id if embedder else 'none: full text alone'}")
            ]
            for who, users in (("1 client", USERS[:1]), ("8 clients of 8 users", USERS), ("8 clients of 1 user", USERS[:1] * 8)):
                figures += _told(await _in_turns(ways, users, seed=who), who)
    return figures


async def fill(home: Path, embedder: Embedder | None, texts: Sequence[str], users: Sequence[str]) -> None:
    """Make them memories of users of this home, embedded once for all."""
    store = LanceMemoryStore(str(home / "memory"), embedder and CachedEmbedder(embedder, len(texts)))
    starts = range(0, len(texts), BATCH)
    for start, user in track([(start, user) for start in starts for user in users], "writing memories", console=STDERR, transient=True):
        await store.apply(namespace(user), writes(texts[start : start + BATCH], start))
    await store.close()


async def _in_turns(ways: dict[str, Way], users: Sequence[str], *, seed: str) -> dict[str, np.ndarray]:
    """Seconds to the first word of each request, by way. The first turn of each way warms up."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    size, order = TURN * len(users), deque(ways.items())
    turns = 1 + scaled(TURNS[len(users)], len(ways))
    texts = questions(size * turns, seed)
    async with session() as http:
        for turn in range(turns):
            for name, way in order:
                taken = await _turn(http, way, texts[size * turn : size * (turn + 1)], users)
                found[name] += taken if turn else []
            order.rotate()  # each way comes after each: what is tidied after writes is no other way's burden alone
    return {name: np.array(seconds) for name, seconds in found.items()}


async def _turn(http: aiohttp.ClientSession, way: Way, texts: Sequence[str], users: Sequence[str]) -> list[float]:
    """A client for each of the users."""
    taken: list[float] = []

    async def client(user: str, mine: Sequence[str]) -> None:
        for place, text in enumerate(mine):
            _, first = await ask(http, way.url, way.body(text, user), mark=FIRST_WORD)
            taken.extend([first] if place else [])

    await asyncio.gather(*(client(user, texts[place :: len(users)]) for place, user in enumerate(users)))
    return taken


def _told(seconds: dict[str, np.ndarray], who: str) -> list[Figure]:
    figures = [Figure(f"{who}, {number(len(taken))} times to the first word, {name}", p50_p95(taken)) for name, taken in seconds.items()]
    for than in (OFF, STUB):
        added = [1e3 * (np.percentile(seconds[ON], part) - np.percentile(seconds[than], part)) for part in (50, 95)]
        wanted = "p50 15 ms, p95 40 ms" if than == OFF else ""
        figures.append(Figure(f"{who}, memory on adds to {than}", f"p50 {added[0]:.2f} ms, p95 {added[1]:.2f} ms", wanted))
    return figures
