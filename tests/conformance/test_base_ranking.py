"""Base level: what counts beside relevance, and how the parts of a score explain it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from recollect.memory import Filters, Ranking
from recollect.stores import BaseStore
from tests.conformance.writes import MODES, NS, add, delete, update

NEWEST = datetime(2020, 6, 1, tzinfo=UTC)


def days(count: float) -> datetime:
    """So many days before the newest."""
    return NEWEST - timedelta(days=count)


async def test_recency_is_by_what_a_memory_is_about_and_not_by_the_clock(store: BaseStore) -> None:
    await store.apply(NS, [add("new", "red tea", valid_at=NEWEST)])
    await store.apply(NS, [add("month", "red tea", valid_at=days(30))])
    await store.apply(NS, [add("year", "red tea", valid_at=days(360))])
    for mode in MODES:
        assert [hit.record.id for hit in await store.search(NS, "red tea", mode=mode)] == ["year", "month", "new"]
        hits = await store.search(NS, "red tea", mode=mode, ranking=Ranking(recency=1))
        assert [hit.record.id for hit in hits] == ["new", "month", "year"], mode
        assert [hit.parts["recency"] for hit in hits] == pytest.approx([1, 0.5, 2**-12], abs=1e-6)


async def test_a_half_life_says_how_fast_the_past_fades(store: BaseStore) -> None:
    await store.apply(NS, [add("new", "red tea", valid_at=NEWEST), add("old", "red tea", valid_at=days(10))])
    for half_life, fresh in ((10, 0.5), (5, 0.25), (1000, 2**-0.01)):
        hits = await store.search(NS, "red tea", ranking=Ranking(recency=1, half_life_days=half_life))
        assert {hit.record.id: hit.parts["recency"] for hit in hits} == pytest.approx({"new": 1, "old": fresh}, abs=1e-6)


async def test_a_memory_without_dates_is_as_new_as_when_it_was_stored(store: BaseStore) -> None:
    await store.apply(NS, [add("undated", "red tea"), add("old", "red tea", valid_at=NEWEST)])
    hits = await store.search(NS, "red tea", ranking=Ranking(recency=1))
    assert [hit.record.id for hit in hits] == ["undated", "old"]
    assert hits[0].parts["recency"] == 1


async def test_the_newest_of_the_namespace_counts_even_where_it_is_not_found(store: BaseStore) -> None:
    await store.apply(NS, [add("new", "a blue car", kind="episodic", valid_at=NEWEST), add("old", "red tea", valid_at=days(30))])
    for mode in MODES:
        [hit] = await store.search(NS, "red tea", mode=mode, filters=Filters(kind="semantic"), ranking=Ranking(recency=1))
        assert hit.parts["recency"] == pytest.approx(0.5), mode
    await store.apply(NS, [delete("new")])
    for as_of, recency in ((None, 1.0), (1, 0.5)):
        [hit] = await store.search(NS, "red tea", filters=Filters(kind="semantic"), ranking=Ranking(recency=1), as_of=as_of)
        assert hit.parts["recency"] == pytest.approx(recency)


async def test_importance_is_explained_in_the_parts(store: BaseStore) -> None:
    await store.apply(NS, [add("most", "red tea", importance=1), add("some", "red tea", importance=0.3), add("none", "red tea")])
    await store.apply(NS, [add("zero", "red tea", importance=0)])
    for mode in MODES:
        plain = await store.search(NS, "red tea", mode=mode)
        assert all("importance" not in hit.parts for hit in plain)
        hits = await store.search(NS, "red tea", mode=mode, ranking=Ranking(importance=0.5))
        assert [hit.record.id for hit in hits[:2]] == ["most", "some"], mode
        assert {hit.record.id: hit.parts["importance"] for hit in hits} == pytest.approx({"most": 1, "some": 0.3, "none": 0, "zero": 0})


async def test_a_score_is_relevance_up_to_one_and_what_is_added(store: BaseStore) -> None:
    await store.apply(
        NS,
        [
            add("best", "red tea", valid_at=days(60), importance=0.2),
            add("good", "red tea and a long story of something else", valid_at=days(15), importance=0.9),
            add("fair", "tea from a shop in the town where nothing else is sold", valid_at=NEWEST),
        ],
    )
    for mode in MODES:
        relevance: dict[str, float] = {}
        for ranking in (Ranking(recency=0.4, importance=0.7), Ranking(recency=2), Ranking(importance=2)):
            hits = await store.search(NS, "red tea", mode=mode, ranking=ranking)
            added = {
                h.record.id: ranking.recency * h.parts.get("recency", 0) + ranking.importance * h.parts.get("importance", 0) for h in hits
            }
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            rest = {hit.record.id: hit.score - added[hit.record.id] for hit in hits}
            assert max(rest.values()) == pytest.approx(1, abs=1e-5), mode
            assert min(rest.values()) >= -1e-5
            relevance = relevance or rest
            assert rest == pytest.approx(relevance, abs=1e-5)


async def test_weights_of_zero_change_nothing(store: BaseStore) -> None:
    await store.apply(NS, [add(f"m{i}", f"red tea {i}", importance=i / 10, valid_at=days(i)) for i in range(8)])
    for mode in MODES:
        plain = await store.search(NS, "red tea 3", mode=mode)
        assert await store.search(NS, "red tea 3", mode=mode, ranking=Ranking(half_life_days=1)) == plain


async def test_the_same_state_gives_the_same_order(store: BaseStore) -> None:
    await store.apply(NS, [add(f"m{i}", "red tea", importance=0.5, valid_at=days(i % 3)) for i in range(20)])
    ranking = Ranking(recency=1, importance=1)
    for mode in MODES:
        first = await store.search(NS, "red tea", limit=20, mode=mode, ranking=ranking)
        assert [hit.record.id for hit in first] == [f"m{i}" for rest in range(3) for i in range(19, -1, -1) if i % 3 == rest], mode
        assert await store.search(NS, "red tea", limit=20, mode=mode, ranking=ranking) == first
        await store.apply(NS, [add("other", "a blue car", valid_at=days(40))])
        await store.apply(NS, [delete("other")])
        again = await store.search(NS, "red tea", limit=20, mode=mode, ranking=ranking)
        assert [(hit.record.id, hit.score) for hit in again] == [(hit.record.id, hit.score) for hit in first]


async def test_the_best_come_first_where_there_are_many(store: BaseStore) -> None:
    await store.apply(NS, [add(f"m{i}", f"red tea {i}", valid_at=days(i + 1)) for i in range(120)])
    await store.apply(NS, [update("m77", "red tea 77", importance=1, valid_at=days(0))])
    for mode in MODES:
        hits = await store.search(NS, "red tea 77", limit=2, mode=mode, ranking=Ranking(recency=1, importance=1))
        assert hits[0].record.id == "m77", mode
        assert len(hits) == 2
