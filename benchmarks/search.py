"""Search at three sizes of a namespace, and in a thousand namespaces: our store, a raw LanceDB table in this process, and peers.

Timed is one search of the ten best as an `await` or a call in Python, embedding not counted: every system is handed the same
vectors of 384 numbers. All indexes are built, and ten searches of each kind done, before the first that counts.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import lancedb

from benchmarks import peer
from benchmarks.figure import Figure, alternating, p50_p95, ratio
from benchmarks.given import GivenEmbedder
from benchmarks.load import BATCH, fill, namespace, parts
from benchmarks.many import many
from benchmarks.raw import LIMIT, RawTable
from benchmarks.rows import Rows, queries, rows
from benchmarks.scale import number, scaled
from memory_store.store import LanceMemoryStore
from recollect.memory import SearchMode

SIZES = (1_000, 10_000, 100_000)
QUERIES = 200
MODES: tuple[SearchMode, ...] = ("dense", "text", "hybrid")
WANTED = {(1_000, "dense"): "p50 ≤ 2 ms"}


async def run() -> list[Figure]:
    """One namespace of each size, then many small ones."""
    figures: list[Figure] = []
    for size in SIZES:
        figures += await _one(size)
    return figures + await many()


async def _one(size: int) -> list[Figure]:
    made = rows(scaled(size, 20))
    asked = queries(made, scaled(QUERIES, 10))
    what = f"{number(len(made.texts))} records"
    with tempfile.TemporaryDirectory() as folder:
        figures = await ours_and_raw(Path(folder), made, asked, what, {mode: WANTED.get((size, mode), "") for mode in MODES})
        return figures + await peer.searches(Path(folder) / "peers", made, asked, what)


async def ours_and_raw(folder: Path, made: Rows, asked: Rows, what: str, wanted: dict[SearchMode, str]) -> list[Figure]:
    """Our store and a raw table of the same rows, in turns."""
    embedder, space = GivenEmbedder(), namespace("bench")
    store = LanceMemoryStore(folder / "ours", embedder)
    batches = parts(made)
    await fill(store, embedder, space, batches, of=len(batches))
    embedder.ask(asked)
    raw = await RawTable.create(await lancedb.connect_async(str(folder / "raw")), "bench", parts(made, BATCH))
    figures: list[Figure] = []
    for mode in MODES:
        taken = await alternating(
            {
                "ours": lambda i, mode=mode: store.search(space, asked.texts[i], mode=mode, limit=LIMIT),
                "raw": lambda i, mode=mode: raw.search(mode, asked.texts[i], asked.vectors[i]),
            },
            len(asked.texts),
        )
        figures += [
            Figure(f"{what}, {mode}", p50_p95(taken["ours"]), wanted[mode]),
            Figure(f"{what}, {mode}, raw LanceDB table", p50_p95(taken["raw"])),
            Figure(f"{what}, {mode}, ours / raw", ratio(taken["ours"], taken["raw"])),
        ]
    await store.close()
    return figures
