"""A reader's searches while nothing else happens, while the same namespace is compacted, indexed and cleaned up, and beside writes.

Timed is one hybrid search in the process that also does the rest; the vectors are given. The reader pauses between two
searches, so that the writer is not starved: each step of a write waits for the interpreter. Upkeep is what the store's
writer runs after every 64 commits, and is run here after as many; the commits between are not timed, and neither are the
searches during them. The last figure is with a writer that commits one record after the other as fast as it can.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure, p50_p99
from benchmarks.given import GivenEmbedder
from benchmarks.load import fill, namespace, parts, writes
from benchmarks.rows import Rows, queries, rows
from benchmarks.scale import number, scaled
from memory_store import disk, upkeep
from memory_store.location import Location
from memory_store.naming import table_name, tenant_folder
from memory_store.store import VIEW_ROWS, LanceMemoryStore
from memory_store.writer import COMPACT_EVERY, TIERS
from recollect.memory import Namespace

SIZES = (10_000, 50_000)
"""One that is searched in memory, and one that is searched inside LanceDB."""
NEW = 20_000
ROUNDS = 40
"""Of upkeep: about 500 searches."""
SECONDS = 30
PAUSE_S = 0.005
WARM_S, QUIET_S = 0.1, 0.2
KEPT = timedelta(seconds=1)
"""Long enough for the searches, short enough that there is something to clean up."""


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
        quiet, kept = await _beside_upkeep(store, Location.of(folder), space, asked, more)
        first = await store.seq(space)
        writer = asyncio.create_task(_write(store, space, more, size))
        busy = await _searched(store, space, asked, seconds)
        writer.cancel()
        (ended,) = await asyncio.gather(writer, return_exceptions=True)
        if not isinstance(ended, asyncio.CancelledError):
            raise RuntimeError("the writer came to its end before the reader") from ended
        written = (await store.seq(space)) - first
        await store.close()
    return [
        Figure(f"{what}, hybrid search, quiet", p50_p99(quiet)),
        Figure(f"{what}, hybrid search beside upkeep", p50_p99(kept)),
        Figure(f"{what}, p99 beside upkeep / quiet", f"{np.percentile(kept, 99) / np.percentile(quiet, 99):.2f}"),
        Figure(f"{what}, hybrid search beside {written / seconds:.0f} writes/s and upkeep", p50_p99(busy)),
        Figure(f"{what}, p99 beside writes and upkeep / quiet", f"{np.percentile(busy, 99) / np.percentile(quiet, 99):.2f}"),
    ]


async def _beside_upkeep(
    store: LanceMemoryStore, root: Location, space: Namespace, asked: Rows, more: Rows
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of the searches before each round of upkeep, and of those that were begun during it."""
    table, view_rows = tenant_folder(root, space.tenant) / f"{table_name(space)}.lance", VIEW_ROWS
    quiet: list[float] = []
    taken: list[float] = []
    for round_ in range(scaled(ROUNDS, 2)):
        for commit in range(COMPACT_EVERY - 1):
            await store.apply(space, writes([more.texts[-commit - 1]], 10**9 + round_ * COMPACT_EVERY + commit))
        snapshot = await asyncio.to_thread(disk.read, table, None, view_rows)
        await _searched(store, space, asked, WARM_S)
        quiet.extend(await _searched(store, space, asked, QUIET_S))
        upkept = asyncio.create_task(asyncio.to_thread(_upkeep, snapshot))
        while not upkept.done():
            taken.extend(await _searched(store, space, asked, PAUSE_S))
        await upkept
    return np.array(quiet), np.array(taken)


def _upkeep(snapshot: disk.Snapshot) -> None:
    upkeep.compact(snapshot, TIERS[0])
    upkeep.clean(snapshot, KEPT)


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
