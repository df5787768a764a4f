"""Base level: batches that are written at the same time."""

from __future__ import annotations

import asyncio

from recollect.errors import NotFound
from recollect.stores import BaseStore
from tests.conformance.writes import NS, add, texts, update


async def test_fifty_concurrent_batches_each_get_their_own_seq(store: BaseStore) -> None:
    batches = [[add(f"c{i}", f"text {i}"), add(f"d{i}", f"other {i}")] for i in range(50)]
    applied = await asyncio.gather(*(store.apply(NS, batch) for batch in batches))
    assert sorted(a.seq for a in applied) == list(range(1, 51))
    assert all(r is not None and r.seq_from == a.seq for a in applied for r in a.records)
    assert len(await store.list(NS, limit=1000)) == 100


async def test_a_refused_batch_among_concurrent_ones_fails_alone(store: BaseStore) -> None:
    await store.apply(NS, [add("a", "one")])
    writes = [[add(f"c{i}", "x") if i % 2 else update("missing", "x")] for i in range(10)]
    results = await asyncio.gather(*(store.apply(NS, w) for w in writes), return_exceptions=True)
    assert [isinstance(r, NotFound) for r in results] == [i % 2 == 0 for i in range(10)]
    assert len(await texts(store)) == 6


async def test_concurrent_updates_of_one_memory_leave_one_current_version(store: BaseStore) -> None:
    await store.apply(NS, [add("a", "start")])
    await asyncio.gather(*(store.apply(NS, [update("a", f"value {i}")]) for i in range(20)))
    history = await store.history(NS, "a")
    assert [r.seq_from for r in history] == list(range(1, 22))
    assert [r.seq_to for r in history] == [*range(2, 22), None]
    assert len(await texts(store)) == 1
