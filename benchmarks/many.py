"""Search in a thousand namespaces of a hundred records, asked in turn: no two searches that follow each other share one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import lancedb
import numpy as np
from rich.progress import track

from benchmarks import peer
from benchmarks.figure import Figure, alternating, p50_p95, ratio
from benchmarks.given import GivenEmbedder
from benchmarks.load import STDERR, namespace, parts, writes
from benchmarks.raw import LIMIT, RawTable
from benchmarks.rows import Rows, queries, rows
from benchmarks.scale import number, scaled
from memory_store.store import LanceMemoryStore
from recollect.memory import SearchMode

NAMESPACES = 1_000
RECORDS = 100
MODES: tuple[SearchMode, ...] = ("dense", "text", "hybrid")


async def many() -> list[Figure]:
    """Ours; raw LanceDB with a table a namespace, and with one table and a filter; then the peers."""
    count = scaled(NAMESPACES, 5)
    made = rows(count * RECORDS)
    each = [queries(part, 1, seed) for seed, part in enumerate(parts(made, RECORDS))]
    asked = Rows([query.texts[0] for query in each], np.concatenate([query.vectors for query in each]))
    what = f"{number(count)} namespaces of {RECORDS}"
    with tempfile.TemporaryDirectory() as folder:
        figures = await _ours_and_raw(Path(folder), made, asked, what)
        return figures + await peer.searches(Path(folder) / "peers", made, asked, what, namespaces=count)


async def _ours_and_raw(folder: Path, made: Rows, asked: Rows, what: str) -> list[Figure]:
    """Query i goes to namespace i; every namespace is searched once in every mode before the searches that count."""
    embedder = GivenEmbedder(made)
    store = LanceMemoryStore(folder / "ours", embedder)
    connection = await lancedb.connect_async(str(folder / "raw"))
    spaces, tables = [namespace(str(i)) for i in range(len(asked.texts))], list[RawTable]()
    for i, part in enumerate(track(parts(made, RECORDS), "writing namespaces", console=STDERR, transient=True)):
        await store.apply(spaces[i], writes(part.texts))
        tables.append(await RawTable.create(connection, f"t{i}", [part]))
    owners = [str(row // RECORDS) for row in range(len(made.texts))]
    shared = await (await RawTable.create(connection, "shared", parts(made), owners)).index_spaces()
    embedder.ask(asked)
    figures: list[Figure] = []
    for mode in MODES:
        taken = await alternating(
            {
                "ours": lambda i, mode=mode: store.search(spaces[i], asked.texts[i], mode=mode, limit=LIMIT),
                "tables": lambda i, mode=mode: tables[i].search(mode, asked.texts[i], asked.vectors[i]),
                "filter": lambda i, mode=mode: shared.search(mode, asked.texts[i], asked.vectors[i], f"space = '{i}'"),
            },
            len(asked.texts),
            warm_up=len(asked.texts),
        )
        figures += [
            Figure(f"{what}, {mode}", p50_p95(taken["ours"]), "p50 ≤ 2 ms" if mode == "dense" else ""),
            Figure(f"{what}, {mode}, raw LanceDB, a table each", p50_p95(taken["tables"])),
            Figure(f"{what}, {mode}, ours / a raw table each", ratio(taken["ours"], taken["tables"])),
            Figure(f"{what}, {mode}, raw LanceDB, one table, filter", p50_p95(taken["filter"])),
            Figure(f"{what}, {mode}, ours / one raw table, filter", ratio(taken["ours"], taken["filter"])),
        ]
    await store.close()
    return figures
