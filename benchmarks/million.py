"""A million records in one namespace, against a raw LanceDB table of the same rows.

The memory stays bounded: rows are made as they go in.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import lancedb

from benchmarks.figure import Figure, alternating, megabytes, p50_p95, ratio
from benchmarks.given import GivenEmbedder
from benchmarks.load import BATCH, fill, namespace
from benchmarks.raw import LIMIT, RawTable
from benchmarks.rows import Rows, queries, rows
from benchmarks.scale import number, scaled
from benchmarks.watch import size, watching
from memory_store.store import LanceMemoryStore
from recollect.memory import SearchMode

RECORDS = 1_000_000
QUERIES = 20
MODES: tuple[SearchMode, ...] = ("dense", "hybrid")


async def run() -> list[Figure]:
    """Fill both, build the indexes, then ask in turns."""
    batch = scaled(BATCH, 50)
    count = RECORDS // BATCH
    asked = queries(rows(batch, seed=0), QUERIES)
    embedder, space, what = GivenEmbedder(), namespace("bench"), f"{number(batch * count)} records"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "ours"
        store = LanceMemoryStore(root, embedder)
        async with watching(root) as watch:
            began = time.perf_counter()
            await fill(store, embedder, space, _batches(batch, count), of=count)
            written = time.perf_counter() - began
            embedder.ask(asked)
            began = time.perf_counter()
            await store.search(space, asked.texts[0], limit=LIMIT)
            first = time.perf_counter() - began
        raw = await RawTable.create(await lancedb.connect_async(f"{folder}/raw"), "bench", _batches(batch, count))
        figures = [
            Figure(f"{what}, written in batches of {number(batch)}", f"{written:.0f} s"),
            Figure(f"{what}, the first search, which builds the full text index", f"{first:.1f} s"),
            Figure(f"{what}, peak resident memory, beyond that before", megabytes(watch.resident - watch.before)),
            Figure(f"{what}, on the disk", megabytes(size(root))),
        ]
        for mode in MODES:
            taken = await alternating(
                {
                    "ours": lambda i, mode=mode: store.search(space, asked.texts[i], mode=mode, limit=LIMIT),
                    "raw": lambda i, mode=mode: raw.search(mode, asked.texts[i], asked.vectors[i]),
                },
                QUERIES,
                warm_up=3,
            )
            figures += [
                Figure(f"{what}, {mode}", p50_p95(taken["ours"])),
                Figure(f"{what}, {mode}, raw LanceDB table", p50_p95(taken["raw"])),
                Figure(f"{what}, {mode}, ours / raw", ratio(taken["ours"], taken["raw"])),
            ]
        await store.close()
    return figures


def _batches(size: int, count: int) -> Iterator[Rows]:
    """Each time the same rows."""
    return (rows(size, seed) for seed in range(count))
