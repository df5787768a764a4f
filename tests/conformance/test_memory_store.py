"""What every memory store must do, run against the store in memory, the store in LanceDB, and a fork."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.errors import Conflict, InvalidRequest, NotFound
from recollect.memory import MAX_TEXT, Filters, MemoryWrite, Namespace, Provenance, SearchMode, content_hash
from recollect.stores import MemoryStore

NS = Namespace.parse("user/42:agent/coach")
MODES: tuple[SearchMode, ...] = ("hybrid", "dense", "text")


def add(memory_id: str, text: str, **fields: object) -> MemoryWrite:
    return MemoryWrite.model_validate({"op": "add", "id": memory_id, "text": text, **fields})


def update(memory_id: str, text: str, **fields: object) -> MemoryWrite:
    return MemoryWrite.model_validate({"op": "update", "id": memory_id, "text": text, **fields})


def delete(memory_id: str) -> MemoryWrite:
    return MemoryWrite(op="delete", id=memory_id)


@pytest.fixture(params=["in memory", "in LanceDB", "fork", "fork of a fork"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MemoryStore]:
    view_rows = 0 if request.param == "in LanceDB" else 20_000
    main = LanceMemoryStore(tmp_path / "memory", HashEmbedder(), view_rows=view_rows)
    tested: MemoryStore = main
    for _ in range(request.param.count("fork")):
        tested = await tested.fork(NS)
    yield tested
    await main.close()


async def texts(store: MemoryStore, as_of: int | None = None) -> list[str]:
    return [record.text for record in await store.list(NS, as_of=as_of)]


async def test_a_namespace_never_written_is_empty_and_has_seq_zero(store: MemoryStore) -> None:
    assert await store.seq(NS) == 0
    assert await store.list(NS) == []
    assert await store.get(NS, "a") is None
    assert await store.history(NS, "a") == []
    assert [await store.search(NS, "anything", mode=mode) for mode in MODES] == [[], [], []]
    assert list(await store.namespaces("local")) == []


async def test_a_change_that_expects_another_version_is_refused(store: MemoryStore) -> None:
    await store.apply(NS, [add("a", "one")])
    await store.apply(NS, [update("a", "two", if_seq=1)])
    with pytest.raises(Conflict, match="its version is of seq 2, not 1") as caught:
        await store.apply(NS, [add("b", "another"), update("a", "three", if_seq=1)])
    assert caught.value.param == "writes.1.if_seq"
    with pytest.raises(Conflict):
        await store.apply(NS, [MemoryWrite(op="delete", id="a", if_seq=1)])
    assert await texts(store) == ["two"]
    await store.apply(NS, [MemoryWrite(op="delete", id="a", if_seq=2)])
    assert await texts(store) == []


async def test_every_field_of_a_memory_comes_back(store: MemoryStore) -> None:
    when = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    provenance = Provenance(trajectory_id="t1", step=3, channel="mcp")
    metadata = {"a": 1, "b": 2.5, "c": True, "d": "ü"}
    write = add("m:1", "Ada lives in Oslo", kind="procedural", metadata=metadata, valid_at=when, provenance=provenance, trust="user")
    applied = await store.apply(NS, [write])
    record = await store.get(NS, "m:1")
    assert record is not None
    assert (applied.seq, applied.records) == (1, (record,))
    assert (record.namespace, record.kind, record.text, record.trust) == (str(NS), "procedural", "Ada lives in Oslo", "user")
    assert (record.metadata, record.valid_at, record.invalid_at, record.provenance) == (metadata, when, None, provenance)
    assert (record.seq_from, record.seq_to, record.content_hash) == (1, None, content_hash("Ada lives in Oslo"))
    assert abs((datetime.now(UTC) - record.created_at).total_seconds()) < 60


async def test_an_update_closes_the_old_version_and_a_delete_closes_the_last(store: MemoryStore) -> None:
    await store.apply(NS, [add("a", "Ada lives in Lisbon"), add("b", "Bob plays chess")])
    updated = await store.apply(NS, [update("a", "Ada lives in Oslo")])
    deleted = await store.apply(NS, [delete("a")])
    assert [updated.seq, deleted.seq, deleted.records] == [2, 3, (None,)]
    versions = [(r.text, r.seq_from, r.seq_to) for r in await store.history(NS, "a")]
    assert versions == [("Ada lives in Lisbon", 1, 2), ("Ada lives in Oslo", 2, 3)]
    assert await store.get(NS, "a") is None
    assert await texts(store) == ["Bob plays chess"]


async def test_the_state_as_of_every_seq_is_what_it_was(store: MemoryStore) -> None:
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


@pytest.mark.parametrize(
    ("bad", "error", "param"),
    [
        (update("missing", "x"), NotFound, "writes.1.id"),
        (delete("missing"), NotFound, "writes.1.id"),
        (add("a", "another text"), Conflict, "writes.1.id"),
        (add("../x", "x"), InvalidRequest, "writes.1.id"),
        (add("b", "  "), InvalidRequest, "writes.1.text"),
        (add("b", "x" * (MAX_TEXT + 1)), InvalidRequest, "writes.1.text"),
        (add("b", "\ud800"), InvalidRequest, "writes.1.text"),
        (add("b", "x", metadata={"n": float("nan")}), InvalidRequest, "writes.1.metadata.n"),
        (add("b", "x", valid_at="2026-01-01T00:00:00"), InvalidRequest, "writes.1.valid_at"),
    ],
)
async def test_a_bad_write_is_refused_by_name_and_nothing_of_its_batch_stays(
    store: MemoryStore, bad: MemoryWrite, error: type[Exception], param: str
) -> None:
    await store.apply(NS, [add("a", "kept")])
    with pytest.raises(error) as caught:
        await store.apply(NS, [add("new", "never seen"), bad])
    assert getattr(caught.value, "param", None) == param
    assert await texts(store) == ["kept"]
    assert await store.seq(NS) == 1


async def test_a_repeated_batch_changes_nothing(store: MemoryStore) -> None:
    await store.apply(NS, [add("a", "one")])
    batch = [add("b", "two"), update("a", "three", kind="episodic")]
    first = await store.apply(NS, batch)
    assert await store.apply(NS, batch) == first
    assert await store.apply(NS, []) == first.model_copy(update={"records": ()})
    assert await store.seq(NS) == 2


async def test_later_writes_of_a_batch_see_the_earlier_ones(store: MemoryStore) -> None:
    batch = [add("a", "one"), update("a", "two"), add("b", "three"), delete("b"), add("b", "four"), add("c", "five"), delete("c")]
    applied = await store.apply(NS, batch)
    assert [r and r.text for r in applied.records] == ["two", "two", "four", "four", "four", None, None]
    assert sorted(await texts(store)) == ["four", "two"]
    assert [r.text for r in await store.history(NS, "a")] == ["two"]
    assert await store.history(NS, "c") == []


async def test_a_deleted_memory_can_be_added_again(store: MemoryStore) -> None:
    await store.apply(NS, [add("a", "one")])
    await store.apply(NS, [delete("a")])
    await store.apply(NS, [add("a", "two")])
    assert [(r.text, r.seq_to) for r in await store.history(NS, "a")] == [("one", 2), ("two", None)]


async def test_a_write_is_found_at_once_in_every_mode(store: MemoryStore) -> None:
    for i in range(30):
        await store.apply(NS, [add(f"n{i}", f"note {i} about subject{i}")])
        for mode in MODES:
            best = (await store.search(NS, f"subject{i}", limit=1, mode=mode))[0]
            assert best.record.id == f"n{i}", mode
            assert set(best.parts) == {"hybrid": {"dense", "text"}, "dense": {"dense"}, "text": {"text"}}[mode]


async def test_search_is_ordered_limited_and_filtered_by_kind(store: MemoryStore) -> None:
    kinds = ("semantic", "episodic", "procedural")
    await store.apply(NS, [add(f"k{i}", f"green tea number {i}", kind=kinds[i % 3]) for i in range(12)])
    for mode in MODES:
        hits = await store.search(NS, "green tea", limit=5, mode=mode)
        assert len(hits) == 5
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        only = await store.search(NS, "green tea", limit=12, mode=mode, filters=Filters(kind="episodic"))
        assert {hit.record.id for hit in only} == {"k1", "k4", "k7", "k10"}
    assert [r.id for r in await store.list(NS, kind="episodic")] == ["k10", "k7", "k4", "k1"]
    assert [r.id for r in await store.list(NS, limit=3, offset=2)] == ["k9", "k8", "k7"]


async def test_text_search_returns_only_what_matches(store: MemoryStore) -> None:
    await store.apply(NS, [add("a", "a red bicycle"), add("b", "a blue car")])
    assert [hit.record.id for hit in await store.search(NS, "bicycles", mode="text")] == ["a"]
    assert await store.search(NS, "aeroplane", mode="text") == []


@pytest.mark.parametrize(
    "query",
    [
        "",
        "   ",
        "?",
        "the",
        "🙂",
        '"unbalanced',
        "a AND (b OR",
        "+x -y ^2 ~",
        "text:*",
        "field:'; DROP TABLE--",
        "\x00",
        "\ud800",
        "日本",
        "x " * 5000,
    ],
)
async def test_no_query_text_is_an_error(store: MemoryStore, query: str) -> None:
    await store.apply(NS, [add("a", "何か 日本語 🙂 x"), add("b", "plain; DROP TABLE")])
    for mode in MODES:
        assert len(await store.search(NS, query, mode=mode)) <= 2
    assert len(await texts(store)) == 2


@pytest.mark.parametrize(
    "text", ["nul \x00 inside", "'; DROP TABLE x; --", "日本語のテキスト", "🙂", "line\nbreak\ttab", "ß" * MAX_TEXT, '{"a": "\\u0000"}']
)
async def test_any_unicode_text_comes_back_as_it_was(store: MemoryStore, text: str) -> None:
    await store.apply(NS, [add("a", text, metadata={"same": text})])
    record = await store.get(NS, "a")
    assert record is not None
    assert (record.text, record.metadata["same"]) == (text, text)


@pytest.mark.parametrize(("limit", "offset", "as_of", "param"), [(0, 0, None, "limit"), (5, -1, None, "offset"), (5, 0, -1, "as_of")])
async def test_numbers_out_of_range_are_refused_by_name(store: MemoryStore, limit: int, offset: int, as_of: int | None, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await store.list(NS, limit=limit, offset=offset, as_of=as_of)
    assert caught.value.param == param


async def test_fifty_concurrent_batches_each_get_their_own_seq(store: MemoryStore) -> None:
    batches = [[add(f"c{i}", f"text {i}"), add(f"d{i}", f"other {i}")] for i in range(50)]
    applied = await asyncio.gather(*(store.apply(NS, batch) for batch in batches))
    assert sorted(a.seq for a in applied) == list(range(1, 51))
    assert all(r is not None and r.seq_from == a.seq for a in applied for r in a.records)
    assert len(await store.list(NS, limit=1000)) == 100


async def test_a_refused_batch_among_concurrent_ones_fails_alone(store: MemoryStore) -> None:
    await store.apply(NS, [add("a", "one")])
    writes = [[add(f"c{i}", "x") if i % 2 else update("missing", "x")] for i in range(10)]
    results = await asyncio.gather(*(store.apply(NS, w) for w in writes), return_exceptions=True)
    assert [isinstance(r, NotFound) for r in results] == [i % 2 == 0 for i in range(10)]
    assert len(await texts(store)) == 6


async def test_concurrent_updates_of_one_memory_leave_one_current_version(store: MemoryStore) -> None:
    await store.apply(NS, [add("a", "start")])
    await asyncio.gather(*(store.apply(NS, [update("a", f"value {i}")]) for i in range(20)))
    history = await store.history(NS, "a")
    assert [r.seq_from for r in history] == list(range(1, 22))
    assert [r.seq_to for r in history] == [*range(2, 22), None]
    assert len(await texts(store)) == 1


async def test_a_fork_starts_as_its_parent_was_and_neither_sees_the_others_writes(store: MemoryStore) -> None:
    await store.apply(NS, [add("a", "one"), add("b", "two")])
    await store.apply(NS, [update("a", "three")])
    now, before = await store.fork(NS), await store.fork(NS, as_of=1)
    await store.apply(NS, [add("parent", "only in the parent")])
    await now.apply(NS, [delete("b"), add("child", "only in the fork")])
    await before.apply(NS, [update("a", "another future")])
    assert sorted(await texts(now)) == ["only in the fork", "three"]
    assert sorted(await texts(before)) == ["another future", "two"]
    assert sorted(await texts(store)) == ["only in the parent", "three", "two"]
    assert [await s.seq(NS) for s in (store, now, before)] == [3, 3, 2]
    assert [(r.text, r.seq_to) for r in await before.history(NS, "a")] == [("one", 2), ("another future", None)]
    for mode in MODES:
        assert {h.record.id for h in await now.search(NS, "only in the fork", mode=mode)} <= {"a", "child"}
        assert (await store.search(NS, "only in the fork", limit=1, mode=mode))[0].record.id == "parent"


async def test_a_fork_scores_like_a_store_that_holds_the_same(store: MemoryStore, tmp_path: Path) -> None:
    words = ["red", "blue", "tea", "car", "house", "river", "stone"]
    entries = [add(f"w{i}", f"{words[i % 7]} {words[i % 5]} {words[i % 3]} {i}") for i in range(40)]
    await store.apply(NS, entries[:30])
    fork = await store.fork(NS)
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
