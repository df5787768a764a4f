"""Single writes by eight clients at once into one namespace: how fast, and what they leave on the disk.

Timed is one `apply` of one addition until it is acknowledged, which is after its commit; the vectors are given.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.progress import Progress

from benchmarks import peer
from benchmarks.figure import Figure, megabytes, p50_p99
from benchmarks.given import GivenEmbedder
from benchmarks.load import STDERR, namespace, writes
from benchmarks.rows import Rows, rows
from benchmarks.scale import number, scaled
from benchmarks.watch import fragments, fresh_copy, size, watching
from memory_store.store import LanceMemoryStore

WRITES = 100_000
CLIENTS = 8
SETTLE_S = 30
PEER_S = 60.0


async def run() -> list[Figure]:
    """Ours, then each peer for a minute."""
    made = rows(scaled(WRITES, 100))
    with tempfile.TemporaryDirectory() as folder:
        figures = await _ours(Path(folder), made)
        return figures + await peer.writes(Path(folder) / "peers", made, clients=CLIENTS, seconds=min(PEER_S, scaled(600, 5)))


async def _ours(folder: Path, made: Rows) -> list[Figure]:
    root = folder / "ours"
    store = LanceMemoryStore(root, GivenEmbedder(made))
    async with watching(root) as watch:
        began = time.perf_counter()
        taken = await _written(store, made)
        wall = time.perf_counter() - began
        await asyncio.sleep(SETTLE_S)
    left, on_disk = fragments(root), size(root)
    await store.close()
    fresh = await asyncio.to_thread(fresh_copy, root, folder / "fresh")
    what = f"{number(len(taken))} single writes by {CLIENTS} clients"
    return [
        Figure(what, f"{len(taken) / wall:.0f}/s, {p50_p99(taken)}"),
        Figure("the last tenth of them", p50_p99(taken[-len(taken) // 10 :])),
        Figure("most fragments at any time", str(watch.fragments), "≤ 100"),
        Figure(f"fragments {SETTLE_S} s after the last", str(left), "≤ 10"),
        Figure(f"on the disk {SETTLE_S} s after the last", megabytes(on_disk)),
        Figure("the same / the texts and vectors", f"{on_disk / made.bytes:.2f}", "≤ 3"),
        Figure("the same / a fresh Lance table of the same rows", f"{on_disk / fresh:.2f}"),
        Figure("peak resident memory, beyond that before", megabytes(watch.resident - watch.before)),
    ]


async def _written(store: LanceMemoryStore, made: Rows) -> np.ndarray:
    """Seconds of each write, in the order in which they were begun."""
    taken = np.zeros(len(made.texts))
    one_by_one = iter(range(len(made.texts)))
    space = namespace("bench")
    with Progress(console=STDERR, transient=True) as progress:
        task = progress.add_task("writing", total=len(made.texts))

        async def client() -> None:
            for row in one_by_one:
                began = time.perf_counter()
                await store.apply(space, writes([made.texts[row]], row))
                taken[row] = time.perf_counter() - began
                progress.advance(task)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return taken
