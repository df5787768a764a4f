"""Base level: what is refused, by the name of its field, and that nothing of it stays."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from recollect.errors import Conflict, InvalidRequest, NotFound
from recollect.memory import MAX_TEXT, Filters, MemoryWrite, Ranking
from recollect.stores import BaseStore
from tests.conformance.writes import NS, add, delete, texts, update

NAIVE = datetime(2026, 1, 1)


async def test_a_change_that_expects_another_version_is_refused(store: BaseStore) -> None:
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
        (add("b", "x", invalid_at="2026-01-01T00:00:00"), InvalidRequest, "writes.1.invalid_at"),
        (add("b", "x", metadata={"k" * 300: 1}), InvalidRequest, "writes.1.metadata"),
        (add("b", "x", tags=["ok", " "]), InvalidRequest, "writes.1.tags.1"),
        (add("b", "x", tags=["ok", "x" * 65]), InvalidRequest, "writes.1.tags.1"),
        (add("b", "x", tags=["\ud800"]), InvalidRequest, "writes.1.tags.0"),
        (add("b", "x", tags=[f"t{i}" for i in range(33)]), InvalidRequest, "writes.1.tags"),
        (add("b", "x", provenance={"session": "\ud800"}), InvalidRequest, "writes.1.provenance.session"),
        (add("b", "x", importance=1.5), InvalidRequest, "writes.1.importance"),
        (add("b", "x", importance=float("nan")), InvalidRequest, "writes.1.importance"),
        (add("b", "x", valid_at="0001-01-01T00:00:00+05:00"), InvalidRequest, "writes.1.valid_at"),
        (add("b", "x", invalid_at="9999-12-31T23:00:00-05:00"), InvalidRequest, "writes.1.invalid_at"),
        (update("a", ""), InvalidRequest, "writes.1.text"),
        (update("a", "x", if_seq=7), Conflict, "writes.1.if_seq"),
        (delete("a", if_seq=7), Conflict, "writes.1.if_seq"),
    ],
)
async def test_a_bad_write_is_refused_by_name_and_nothing_of_its_batch_stays(
    store: BaseStore, bad: MemoryWrite, error: type[Exception], param: str
) -> None:
    await store.apply(NS, [add("a", "kept")])
    with pytest.raises(error) as caught:
        await store.apply(NS, [add("new", "never seen"), bad])
    assert getattr(caught.value, "param", None) == param
    assert await texts(store) == ["kept"]
    assert await store.seq(NS) == 1


@pytest.mark.parametrize(("limit", "offset", "as_of", "param"), [(0, 0, None, "limit"), (5, -1, None, "offset"), (5, 0, -1, "as_of")])
async def test_numbers_out_of_range_are_refused_by_name(store: BaseStore, limit: int, offset: int, as_of: int | None, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await store.list(NS, limit=limit, offset=offset, as_of=as_of)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"as_of": -1}, "as_of"),
        ({"filters": Filters(since=NAIVE)}, "filters.since"),
        ({"filters": Filters(until=NAIVE)}, "filters.until"),
        ({"filters": Filters(valid_at=NAIVE)}, "filters.valid_at"),
        ({"filters": Filters(tags=("ok", "\ud800"))}, "filters.tags.1"),
        ({"ranking": Ranking(recency=-0.1)}, "ranking.recency"),
        ({"ranking": Ranking(recency=float("nan"))}, "ranking.recency"),
        ({"ranking": Ranking(importance=10.1)}, "ranking.importance"),
        ({"ranking": Ranking(half_life_days=0)}, "ranking.half_life_days"),
        ({"ranking": Ranking(half_life_days=float("inf"))}, "ranking.half_life_days"),
    ],
)
async def test_a_search_out_of_range_is_refused_by_name(store: BaseStore, asked: dict[str, Any], param: str) -> None:
    await store.apply(NS, [add("a", "one")])
    with pytest.raises(InvalidRequest) as caught:
        await store.search(NS, "one", **asked)
    assert caught.value.param == param


@pytest.mark.parametrize(("asked", "param"), [({"reach": -1}, "reach"), ({"reach": 21}, "reach"), ({"as_of": -1}, "as_of")])
async def test_neighbours_out_of_range_are_refused_by_name(store: BaseStore, asked: dict[str, int], param: str) -> None:
    await store.apply(NS, [add("a", "one")])
    with pytest.raises(InvalidRequest) as caught:
        await store.neighbours(NS, "a", **asked)
    assert caught.value.param == param


async def test_reading_before_the_first_commit_is_refused(store: BaseStore) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await store.get(NS, "a", as_of=-1)
    assert caught.value.param == "as_of"
