"""Search and writing in a namespace of 1,000 records among 100, against one raw LanceDB table of the same rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

import lancedb
import numpy as np
from lancedb.index import FTS

from benchmarks.figure import Figure, p50_p95, timed
from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.memory import MemoryWrite, Namespace, Provenance

WORDS = (
    "dog",
    "cat",
    "code",
    "locker",
    "school",
    "doctor",
    "street",
    "friend",
    "horse",
    "boat",
    "river",
    "city",
    "train",
    "winter",
    "green",
)


def _text(number: int) -> str:
    rng = np.random.default_rng(abs(number))
    return " ".join(rng.choice(WORDS, 8)) + f" {number}"


def _turn(number: int) -> MemoryWrite:
    origin = Provenance(session=f"session {number // 20}")
    return MemoryWrite(op="add", id=f"m{number}", text=_text(number), kind="episodic", provenance=origin)


async def run() -> list[Figure]:
    """Fill 100 namespaces, then time searches, forks and single writes."""
    embedder = HashEmbedder()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        store = LanceMemoryStore(Path(folder), embedder)
        spaces = [Namespace(parts=(("user", str(i)),)) for i in range(100)]
        for space in spaces:
            size = 1000 if space is spaces[0] else 20
            await store.apply(space, [MemoryWrite(op="add", id=f"m{i}", text=_text(i)) for i in range(size)])
        for mode in ("dense", "text", "hybrid"):
            taken = await timed(lambda i, mode=mode: store.search(spaces[0], _text(i), mode=mode, limit=10), 200)
            figures.append(Figure(f"{mode} search, 1,000 records among 100 namespaces (embedding included)", p50_p95(taken)))
        turns = Namespace(parts=(("user", "turns"),))
        await store.apply(turns, [_turn(i) for i in range(1000)])
        taken = await timed(lambda i: store.search(turns, _text(i), limit=10), 200)
        figures.append(Figure("hybrid search of 1,000 episodic turns in 50 sessions, in context", p50_p95(taken)))
        vectors = await embedder.embed([_text(i) for i in range(1000)])
        raw = await lancedb.connect_async(f"{folder}/raw")
        table = await raw.create_table("t", [{"id": i, "text": _text(i), "vector": v.tolist()} for i, v in enumerate(vectors)])
        peer = await timed(lambda i: table.query().nearest_to(vectors[i % 1000]).distance_type("cosine").limit(10).to_arrow(), 200)
        figures.append(Figure("the same, raw LanceDB table, dense", p50_p95(peer)))
        await table.create_index("text", config=FTS())
        peer = await timed(lambda i: table.query().nearest_to(vectors[i % 1000]).nearest_to_text(_text(i)).limit(10).to_arrow(), 200)
        figures.append(Figure("the same, raw LanceDB table, hybrid", p50_p95(peer)))

        forks = await timed(lambda _: store.fork(spaces[0]), 100)
        figures.append(Figure("fork of 1,000 records", p50_p95(forks), "≤ 2 ms"))
        fork = await store.fork(spaces[0])
        taken = await timed(lambda i: fork.search(spaces[0], _text(i), limit=10), 200)
        figures.append(Figure("hybrid search in a fork", p50_p95(taken)))

        writes = await timed(lambda i: store.apply(spaces[1], [MemoryWrite(op="add", id=f"w{i}", text=_text(i + 5000))]), 500)
        figures.append(Figure("one write, until it is committed and found", p50_p95(writes), "≤ 1 s"))
        await store.close()
    return figures
