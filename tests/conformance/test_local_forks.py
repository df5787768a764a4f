"""Local level: forks, and what only a store of this process can carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.memory import MAX_TEXT, Filters, Provenance
from recollect.stores import MemoryStore
from tests.conformance.writes import MODES, NS, add, delete, texts, update


async def test_a_fork_starts_as_its_parent_was_and_neither_sees_the_others_writes(forkable: MemoryStore) -> None:
    await forkable.apply(NS, [add("a", "one"), add("b", "two")])
    await forkable.apply(NS, [update("a", "three")])
    now, before = await forkable.fork(NS), await forkable.fork(NS, as_of=1)
    await forkable.apply(NS, [add("parent", "only in the parent")])
    await now.apply(NS, [delete("b"), add("child", "only in the fork")])
    await before.apply(NS, [update("a", "another future")])
    assert sorted(await texts(now)) == ["only in the fork", "three"]
    assert sorted(await texts(before)) == ["another future", "two"]
    assert sorted(await texts(forkable)) == ["only in the parent", "three", "two"]
    assert [await s.seq(NS) for s in (forkable, now, before)] == [3, 3, 2]
    assert [(r.text, r.seq_to) for r in await before.history(NS, "a")] == [("one", 2), ("another future", None)]
    for mode in MODES:
        assert {h.record.id for h in await now.search(NS, "only in the fork", mode=mode)} <= {"a", "child"}
        assert (await forkable.search(NS, "only in the fork", limit=1, mode=mode))[0].record.id == "parent"


async def test_a_fork_scores_like_a_store_that_holds_the_same(forkable: MemoryStore, tmp_path: Path) -> None:
    words = ["red", "blue", "tea", "car", "house", "river", "stone"]
    entries = [add(f"w{i}", f"{words[i % 7]} {words[i % 5]} {words[i % 3]} {i}") for i in range(40)]
    await forkable.apply(NS, entries[:30])
    fork = await forkable.fork(NS)
    for entry in entries[30:]:
        await fork.apply(NS, [entry])
    await fork.apply(NS, [delete("w3"), update("w4", "red house by the river")])
    fresh = LanceMemoryStore(tmp_path / "fresh", HashEmbedder())
    await fresh.apply(NS, [*(e for e in entries if e.id not in ("w3", "w4")), add("w4", "red house by the river")])
    for mode in MODES:
        for query in ("red house", "tea by the river 7"):
            mine, other = [await s.search(NS, query, limit=8, mode=mode) for s in (fork, fresh)]
            assert [h.score for h in mine] == pytest.approx([h.score for h in other])
    await fresh.close()


async def test_a_namespace_never_written_is_not_among_the_namespaces(forkable: MemoryStore) -> None:
    assert list(await forkable.namespaces("local")) == []
    await forkable.apply(NS, [add("a", "one")])
    assert list(await forkable.namespaces("local")) == [NS]
    assert list(await forkable.namespaces("another")) == []


async def test_which_step_of_which_trajectory_wrote_a_memory_comes_back(forkable: MemoryStore) -> None:
    provenance = Provenance(trajectory_id="t1", step=3, channel="mcp")
    await forkable.apply(NS, [add("m:1", "Ada lives in Oslo", provenance=provenance, trust="operator")])
    record = await forkable.get(NS, "m:1")
    assert record is not None
    assert (record.provenance, record.trust) == (provenance, "operator")


async def test_metadata_may_be_as_long_as_a_text(forkable: MemoryStore) -> None:
    text = "ß" * MAX_TEXT
    await forkable.apply(NS, [add("a", text, metadata={"same": text})])
    record = await forkable.get(NS, "a")
    assert record is not None
    assert (record.text, record.metadata["same"]) == (text, text)


async def test_what_the_operator_says_is_found_by_its_trust(forkable: MemoryStore) -> None:
    await forkable.apply(NS, [add("a", "a red car", trust="operator"), add("b", "a red car", trust="user")])
    for mode in MODES:
        found = await forkable.search(NS, "red car", mode=mode, filters=Filters(trust=("operator",)))
        assert [hit.record.id for hit in found] == ["a"]
