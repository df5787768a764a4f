"""A reader's searches while nothing else happens, and while the same namespace is written to, compacted and indexed.

Timed is one hybrid search in the process that also writes; the vectors are given. The reader pauses between two searches,
so that the writer is not starved: each step of a write waits for the interpreter.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure, p50_p99
from benchmarks.given import GivenEmbedder
from benchmarks.load import fill, namespace, parts, writes
from benchmarks.rows import Rows, queries, rows
from benchmarks.scale import number, scaled
from memory_store.store import LanceMemoryStore
from recollect.memory import Namespace

SIZES = (10_000, 50_000)
"""One that is searched in memory, and one that is searched inside LanceDB."""
NEW = 20_000
SECONDS = 30
PAUSE_S = 0.005


async def run() -> list[Figure]:
    """Both sizes."""
    return [figure for size in SIZES for figure in await _one(scaled(size, 50))]


async def _one(size: int) -> list[Figure]:
    made, more = rows(size), rows(scaled(NEW, 1_000), seed=1)
    asked, embedder, space = queries(made, 200), GivenEmbedder(), namespace("bench")
    what, seconds = f"{number(size)} records", max(2.0, scaled(SECONDS * 10) / 10)
    with tempfile.TemporaryDirectory() as folder:
        store = LanceMemoryStore(Path(folder), embedder)
        batches = parts(made)
        await fill(store, embedder, space, batches, of=len(batches))
        embedder.hold(more)
        embedder.ask(asked)
        await _searched(store, space, asked, 1.0)
        quiet = await _searched(store, space, asked, seconds)
        writer = asyncio.create_task(_write(store, space, more, size))
        busy = await _searched(store, space, asked, seconds)
        writer.cancel()
        (ended,) = await asyncio.gather(writer, return_exceptions=True)
        if not isinstance(ended, asyncio.CancelledError):
            raise RuntimeError("the writer came to its end before the reader") from ended
        written = (await store.seq(space)) - len(batches)
        await store.close()
    return [
        Figure(f"{what}, hybrid search, quiet", p50_p99(quiet)),
        Figure(f"{what}, hybrid search during {written / seconds:.0f} writes/s, a compaction every 64", p50_p99(busy)),
        Figure(f"{what}, p99 busy / quiet", f"{np.percentile(busy, 99) / np.percentile(quiet, 99):.2f}"),
    ]


async def _searched(store: LanceMemoryStore, space: Namespace, asked: Rows, seconds: float) -> np.ndarray:
    """Seconds of each search that was begun in time."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        await store.search(space, asked.texts[len(taken) % len(asked.texts)], limit=10)
        taken.append(time.perf_counter() - began)
        await asyncio.sleep(PAUSE_S)
    return np.array(taken)


async def _write(store: LanceMemoryStore, space: Namespace, more: Rows, first: int) -> None:
    """Single writes, one after the other, until there are no more or this is cancelled."""
    for row, text in enumerate(more.texts, start=first):
        await store.apply(space, writes([text], row))
