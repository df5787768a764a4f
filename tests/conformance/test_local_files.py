"""Local level: what a store with files can do besides: find, erase, tell its size, drop."""

from __future__ import annotations

from recollect.memory import MemoryRecord, NamespaceStats
from recollect.stores import LocalStore
from tests.conformance.writes import MODES, NS, add, delete, texts, turn, update


def of_monday(record: MemoryRecord) -> bool:
    return record.provenance.session == "monday"


async def test_what_is_chosen_by_any_version_is_found_and_erased_in_all(local: LocalStore) -> None:
    await local.apply(NS, [turn("a", "monday", "red tea"), turn("b", "tuesday", "blue tea"), add("c", "green tea")])
    await local.apply(NS, [update("a", "red tea, later"), delete("c")])
    assert [record.text for record in await local.find(NS, of_monday)] == ["red tea", "red tea, later"]
    erased = await local.erase(NS, of_monday)
    assert [record.text for record in erased if record.text] == ["red tea", "red tea, later"]
    assert await local.history(NS, "a") == []
    assert await texts(local) == ["blue tea"]
    assert await texts(local, 1) == ["green tea", "blue tea"]
    for mode in MODES:
        assert [hit.record.id for hit in await local.search(NS, "tea", mode=mode)] == ["b"]
    assert list(await local.erase(NS, of_monday)) == []


async def test_neighbours_go_on_without_what_was_erased(local: LocalStore) -> None:
    await local.apply(NS, [turn(name, "s") for name in "abc"])
    await local.erase(NS, lambda record: record.id == "b")
    assert [record.id for record in await local.neighbours(NS, "a")] == ["a", "c"]


async def test_the_size_of_a_namespace_counts_versions_and_kinds(local: LocalStore) -> None:
    assert await local.stats(NS) == NamespaceStats()
    await local.apply(NS, [turn("a", "s"), add("b", "x"), add("c", "y")])
    await local.apply(NS, [update("b", "z"), delete("c")])
    stats = await local.stats(NS)
    assert (stats.seq, stats.memories, stats.versions, stats.by_kind) == (2, 2, 4, {"episodic": 1, "semantic": 1})
    assert stats.without_vector == 0
    assert stats.bytes > 0


async def test_a_dropped_namespace_is_as_if_it_was_never_written(local: LocalStore) -> None:
    await local.apply(NS, [add("a", "one")])
    await local.apply(NS, [update("a", "two")])
    assert {record.text for record in await local.drop(NS) if record.text} == {"one", "two"}
    assert await local.seq(NS) == 0
    assert await texts(local) == []
    assert list(await local.namespaces("local")) == []
    assert (await local.apply(NS, [add("a", "three")])).seq == 1
