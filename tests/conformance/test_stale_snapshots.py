"""A commit on what another process has meanwhile dropped, cleaned up or damaged is refused, and done again on what is there."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memory_store import disk, upkeep
from memory_store.embedders.hash import HashEmbedder
from memory_store.faults import CommitConflict
from memory_store.naming import table_name
from memory_store.plan import plan
from memory_store.store import LanceMemoryStore
from recollect.errors import RecollectError
from recollect.memory import MemoryWrite, Namespace

NS = Namespace.parse("user/42")


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[LanceMemoryStore, LanceMemoryStore]]:
    """Two stores on one folder, as two processes have them."""
    both = LanceMemoryStore(tmp_path, HashEmbedder(8)), LanceMemoryStore(tmp_path, HashEmbedder(8))
    yield both
    for store in both:
        await store.close()


def _add(memory_id: str) -> MemoryWrite:
    return MemoryWrite(op="add", id=memory_id, text=f"the text of {memory_id}")


async def _late(snapshot: disk.Snapshot, memory_id: str) -> None:
    """Commit a memory on a snapshot, however old it is."""
    planned = plan(str(NS), [_add(memory_id)], {}, snapshot.seq + 1, {}, datetime.now(UTC))
    disk.commit(snapshot, planned.rows, snapshot.seq + 1)


async def _snapshot(store: LanceMemoryStore, root: Path) -> disk.Snapshot:
    """What the store would commit on; Lance has all of it in its caches."""
    view = await store.fork(NS)
    assert await view.seq(NS)
    location = disk.Location.of(root / NS.tenant / f"{table_name(NS)}.lance")
    snapshot = disk.read(location, None, None)
    snapshot.dataset.to_table(columns=["key"], with_row_id=True, with_row_address=True)
    return snapshot


async def test_on_a_dropped_table_nothing_is_committed_and_the_new_one_is_whole(
    pair: tuple[LanceMemoryStore, LanceMemoryStore], tmp_path: Path
) -> None:
    one, other = pair
    await one.apply(NS, [_add("old")])
    stale = await _snapshot(other, tmp_path)
    await one.drop(NS)
    with pytest.raises(CommitConflict):
        await _late(stale, "late")
    await one.apply(NS, [_add("new")])
    with pytest.raises(CommitConflict):
        await _late(stale, "late")
    assert (await other.apply(NS, [_add("later")])).seq == 2
    again = LanceMemoryStore(tmp_path, HashEmbedder(8))
    assert {record.id for record in await again.list(NS)} == {"new", "later"}
    await again.drop(NS)
    await again.close()


async def test_on_a_version_that_was_cleaned_up_nothing_is_committed(
    pair: tuple[LanceMemoryStore, LanceMemoryStore], tmp_path: Path
) -> None:
    one, other = pair
    await one.apply(NS, [_add("first")])
    stale = await _snapshot(other, tmp_path)
    for memory_id in ("second", "third"):
        await one.apply(NS, [_add(memory_id)])
    upkeep.clean(await _snapshot(one, tmp_path), timedelta(0))
    with pytest.raises(CommitConflict):
        await _late(stale, "late")
    assert (await other.apply(NS, [_add("late")])).seq == 4


async def test_a_damaged_table_is_named_as_such_and_soon(pair: tuple[LanceMemoryStore, LanceMemoryStore], tmp_path: Path) -> None:
    one, _ = pair
    await one.apply(NS, [_add("first")])
    shutil.rmtree(tmp_path / NS.tenant / f"{table_name(NS)}.lance" / "data")
    with pytest.raises(RecollectError, match=r"cannot be (read|written)|could not be read"):
        await one.apply(NS, [_add("second")])


async def test_a_fork_of_the_past_may_use_ids_of_the_future(pair: tuple[LanceMemoryStore, LanceMemoryStore]) -> None:
    one, _ = pair
    await one.apply(NS, [_add("a")])
    await one.apply(NS, [_add("x")])
    fork = await one.fork(NS, as_of=1)
    await fork.apply(NS, [MemoryWrite(op="add", id="x", text="the fork's own")])
    await fork.apply(NS, [MemoryWrite(op="update", id="x", text="the fork's newer")])
    assert [(version.text, version.seq_from, version.seq_to) for version in await fork.history(NS, "x")] == [
        ("the fork's own", 2, 3),
        ("the fork's newer", 3, None),
    ]
    assert [record.id for record in await fork.list(NS)] == ["x", "a"]
    await fork.apply(NS, [MemoryWrite(op="delete", id="x")])
    assert await fork.get(NS, "x") is None
    assert [record.text for record in await one.history(NS, "x")] == ["the text of x"]
