"""Base level: what is written is read back, now and as of every `seq`."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from recollect.memory import MAX_TEXT, Applied, Provenance, content_hash
from recollect.stores import BaseStore
from tests.conformance.writes import MODES, NS, add, delete, texts, turn, update


async def test_a_namespace_never_written_is_empty_and_has_seq_zero(store: BaseStore) -> None:
    assert await store.seq(NS) == 0
    assert await store.list(NS) == []
    assert await store.get(NS, "a") is None
    assert await store.history(NS, "a") == []
    assert [await store.search(NS, "anything", mode=mode) for mode in MODES] == [[], [], []]
    assert await store.neighbours(NS, "a") == []
    assert [record async for record in store.export(NS)] == []
    assert await store.apply(NS, []) == Applied(seq=0, records=())


async def test_every_field_of_a_memory_comes_back(store: BaseStore) -> None:
    when = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    metadata = {"a": 1, "b": 2.5, "c": True, "d": "ü"}
    known = {"metadata": metadata, "valid_at": when, "trust": "tool", "tags": ("work", "ü"), "importance": 0.25}
    write = add("m:1", "Ada lives in Oslo", kind="procedural", provenance=Provenance(session="monday"), **known)
    applied = await store.apply(NS, [write])
    record = await store.get(NS, "m:1")
    assert record is not None
    assert (applied.seq, applied.records) == (1, (record,))
    assert (record.namespace, record.kind, record.text, record.trust) == (str(NS), "procedural", "Ada lives in Oslo", "tool")
    assert (record.metadata, record.valid_at, record.invalid_at) == (metadata, when, None)
    assert (record.tags, record.importance, record.provenance.session) == (("work", "ü"), 0.25, "monday")
    assert [type(value) for value in record.metadata.values()] == [int, float, bool, str]
    assert (record.seq_from, record.seq_to, record.content_hash) == (1, None, content_hash("Ada lives in Oslo"))
    assert abs((datetime.now(UTC) - record.created_at).total_seconds()) < 60


async def test_an_update_closes_the_old_version_and_a_delete_closes_the_last(store: BaseStore) -> None:
    await store.apply(NS, [add("a", "Ada lives in Lisbon"), add("b", "Bob plays chess")])
    updated = await store.apply(NS, [update("a", "Ada lives in Oslo")])
    deleted = await store.apply(NS, [delete("a")])
    assert [updated.seq, deleted.seq, deleted.records] == [2, 3, (None,)]
    versions = [(r.text, r.seq_from, r.seq_to) for r in await store.history(NS, "a")]
    assert versions == [("Ada lives in Lisbon", 1, 2), ("Ada lives in Oslo", 2, 3)]
    assert await store.get(NS, "a") is None
    assert await texts(store) == ["Bob plays chess"]


async def test_the_state_as_of_every_seq_is_what_it_was(store: BaseStore) -> None:
    await store.apply(NS, [add("a", "one apple"), add("b", "one pear")])
    await store.apply(NS, [update("a", "two apples")])
    await store.apply(NS, [delete("b"), add("c", "one cherry")])
    assert await texts(store, 0) == []
    assert await texts(store, 1) == ["one pear", "one apple"]
    assert await texts(store, 2) == ["two apples", "one pear"]
    assert await texts(store, 3) == await texts(store) == await texts(store, 99) == ["one cherry", "two apples"]
    old = await store.get(NS, "a", as_of=1)
    assert old is not None
    assert old.text == "one apple"
    for mode in MODES:
        found = await store.search(NS, "apples and pears", mode=mode, as_of=1)
        assert {hit.record.text for hit in found} == {"one apple", "one pear"}, mode


async def test_a_repeated_batch_changes_nothing(store: BaseStore) -> None:
    await store.apply(NS, [add("a", "one")])
    batch = [add("b", "two"), update("a", "three", kind="episodic")]
    first = await store.apply(NS, batch)
    assert await store.apply(NS, batch) == first
    assert await store.apply(NS, []) == first.model_copy(update={"records": ()})
    assert await store.seq(NS) == 2


async def test_later_writes_of_a_batch_see_the_earlier_ones(store: BaseStore) -> None:
    batch = [add("a", "one"), update("a", "two"), add("b", "three"), delete("b"), add("b", "four"), add("c", "five"), delete("c")]
    applied = await store.apply(NS, batch)
    assert [r and r.text for r in applied.records] == ["two", "two", "four", "four", "four", None, None]
    assert sorted(await texts(store)) == ["four", "two"]
    assert [r.text for r in await store.history(NS, "a")] == ["two"]
    assert await store.history(NS, "c") == []


async def test_a_deleted_memory_can_be_added_again(store: BaseStore) -> None:
    await store.apply(NS, [add("a", "one")])
    await store.apply(NS, [delete("a")])
    await store.apply(NS, [add("a", "two")])
    assert [(r.text, r.seq_to) for r in await store.history(NS, "a")] == [("one", 2), ("two", None)]


@pytest.mark.parametrize(
    "text", ["nul \x00 inside", "'; DROP TABLE x; --", "日本語のテキスト", "🙂", "line\nbreak\ttab", "ß" * MAX_TEXT, '{"a": "\\u0000"}']
)
async def test_any_unicode_text_comes_back_as_it_was(store: BaseStore, text: str) -> None:
    await store.apply(NS, [add("a", text, metadata={"same": text[:4096]}, tags=[text[:8]])])
    record = await store.get(NS, "a")
    assert record is not None
    assert (record.text, record.metadata["same"], record.tags) == (text, text[:4096], (text[:8],))


@pytest.mark.parametrize("memory_id", ["export", "stats", "search", "batch", "forget", "history", "m:1.2_3-4", "9"])
async def test_any_id_is_read_changed_and_deleted_by_its_name(store: BaseStore, memory_id: str) -> None:
    await store.apply(NS, [add(memory_id, "one")])
    await store.apply(NS, [update(memory_id, "two")])
    record, before = await store.get(NS, memory_id), await store.get(NS, memory_id, as_of=1)
    assert record is not None
    assert before is not None
    assert (record.text, before.text) == ("two", "one")
    assert await store.neighbours(NS, memory_id) == [record]
    await store.apply(NS, [delete(memory_id)])
    assert await store.get(NS, memory_id) is None
    assert [version.text for version in await store.history(NS, memory_id)] == ["one", "two"]


@pytest.mark.parametrize("memory_id", ["", "no id", "../x", "a/history", "a?as_of=1", "ü", "x" * 129])
async def test_what_is_no_id_is_no_memory_s(store: BaseStore, memory_id: str) -> None:
    await store.apply(NS, [add("a", "one")])
    assert await store.get(NS, memory_id) is None
    assert await store.history(NS, memory_id) == []
    assert await store.neighbours(NS, memory_id) == []


async def test_a_seq_beyond_all_numbers_is_the_newest_state(store: BaseStore) -> None:
    await store.apply(NS, [turn("a", "s"), turn("b", "s")])
    for as_of in (10**9, 2**63, 10**30):
        assert await store.get(NS, "a", as_of=as_of) == await store.get(NS, "a")
        assert await store.neighbours(NS, "a", as_of=as_of) == await store.neighbours(NS, "a")
        assert await store.list(NS, as_of=as_of) == await store.list(NS)
        assert len(await store.search(NS, "turn", as_of=as_of)) == 2


async def test_an_update_replaces_every_field(store: BaseStore) -> None:
    first = {"kind": "episodic", "metadata": {"a": 1}, "tags": ["x"], "importance": 0.5, "trust": "user", "provenance": {"session": "s"}}
    times = {"valid_at": datetime(2026, 1, 1, tzinfo=UTC), "invalid_at": datetime(2026, 2, 1, tzinfo=UTC)}
    await store.apply(NS, [add("a", "one", **first, **times)])
    [record] = (await store.apply(NS, [update("a", "one")])).records
    assert record is not None
    assert (record.kind, record.metadata, record.tags, record.importance, record.trust) == ("semantic", {}, (), None, "unknown")
    assert (record.valid_at, record.invalid_at, record.provenance.session, record.seq_from) == (None, None, None, 2)


async def test_an_export_is_the_current_state_oldest_first(store: BaseStore) -> None:
    await store.apply(NS, [add("a", "one"), add("b", "two")])
    await store.apply(NS, [add("c", "three\u2028four"), delete("b")])
    await store.apply(NS, [update("a", "five")])
    exported = [record async for record in store.export(NS)]
    assert [record.text for record in exported] == ["three\u2028four", "five"]
    assert exported == list(reversed(await store.list(NS)))


async def test_a_list_of_any_length_is_of_one_moment(store: BaseStore) -> None:
    for start in range(0, 1200, 400):
        await store.apply(NS, [add(f"m{i}", f"text {i}") for i in range(start, start + 400)])
    listed = await store.list(NS, limit=1100, offset=50)
    assert [record.id for record in listed] == [f"m{i}" for i in range(1149, 49, -1)]
    assert len(await store.list(NS, limit=5000)) == 1200
    assert [record.id for record in await store.list(NS, limit=5000, as_of=1)] == [f"m{i}" for i in range(399, -1, -1)]


async def test_an_update_of_the_session_alone_is_an_update(store: BaseStore) -> None:
    await store.apply(NS, [turn("a", "monday", "said")])
    moved = update("a", "said", kind="episodic", provenance=Provenance(session="tuesday"))
    assert (await store.apply(NS, [moved])).seq == 2
    assert (await store.apply(NS, [moved])).seq == 2
    record = await store.get(NS, "a")
    assert record is not None
    assert record.provenance.session == "tuesday"
