"""Base level: what filters let pass, each alone and together, in every mode."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from recollect.memory import Filters, Ranking
from recollect.stores import BaseStore
from tests.conformance.writes import MODES, NS, add, update

JAN, FEB, MAR = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3))
EAST, WEST = timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))
MEMORIES = (
    add("a", "red tea", kind="semantic", tags=["work", "tea"], trust="user", valid_at=JAN),
    add("b", "red tea", kind="episodic", tags=["work"], trust="assistant", valid_at=FEB, invalid_at=MAR),
    add("c", "red tea", kind="episodic", tags=["home", 'it\'s "odd"; --'], trust="tool", invalid_at=FEB),
    add("d", "red tea", kind="procedural", trust="document"),
    add("e", "red tea", tags=["Work", "täglich"], trust="unknown", valid_at=MAR),
)
SECOND = timedelta(seconds=1)
CASES: dict[str, tuple[Filters, str]] = {
    "nothing": (Filters(), "abcde"),
    "a kind": (Filters(kind="episodic"), "bc"),
    "a tag": (Filters(tags=("work",)), "ab"),
    "all of two tags": (Filters(tags=("tea", "work")), "a"),
    "a tag that nothing has": (Filters(tags=("tea", "home")), ""),
    "a tag is a whole one": (Filters(tags=("wor",)), ""),
    "a tag with accents": (Filters(tags=("täglich",)), "e"),
    "a tag that looks like code": (Filters(tags=('it\'s "odd"; --',)), "c"),
    "a tag of wildcards": (Filters(tags=("%",)), ""),
    "without a tag": (Filters(without_tags=("work",)), "cde"),
    "without either of two tags": (Filters(without_tags=("tea", "home")), "bde"),
    "with one tag and without another": (Filters(tags=("work",), without_tags=("tea",)), "b"),
    "without a tag that looks like code": (Filters(without_tags=('it\'s "odd"; --',)), "abde"),
    "one trust": (Filters(trust=("tool",)), "c"),
    "one of several": (Filters(trust=("tool", "unknown", "operator")), "ce"),
    "since, inclusive": (Filters(since=MAR), "cde"),
    "since, a moment later": (Filters(since=MAR + SECOND), "cd"),
    "until, exclusive": (Filters(until=FEB), "a"),
    "until, a moment later": (Filters(until=FEB + SECOND), "ab"),
    "since and until": (Filters(since=JAN + SECOND, until=MAR), "b"),
    "since in another zone": (Filters(since=FEB.astimezone(EAST), until=MAR.astimezone(WEST)), "b"),
    "holds before anything began": (Filters(valid_at=JAN - SECOND), "cd"),
    "holds from its beginning on": (Filters(valid_at=JAN), "acd"),
    "holds no more from its end on": (Filters(valid_at=FEB), "abd"),
    "holds until its end": (Filters(valid_at=FEB - timedelta(microseconds=1)), "acd"),
    "holds now": (Filters(valid_at=MAR), "ade"),
    "holds in another zone": (Filters(valid_at=(FEB - SECOND).astimezone(WEST)), "acd"),
    "kind and tag": (Filters(kind="episodic", tags=("work",)), "b"),
    "trust and time": (Filters(trust=("user", "assistant"), since=FEB), "b"),
    "tag and validity": (Filters(tags=("work",), valid_at=MAR), "a"),
    "all of them": (
        Filters(kind="episodic", tags=("work",), trust=("assistant",), since=JAN, until=MAR, valid_at=FEB + SECOND),
        "b",
    ),
    "all but one hold": (Filters(kind="episodic", tags=("work",), trust=("user",), since=JAN, until=MAR, valid_at=FEB + SECOND), ""),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_filter_lets_pass_what_it_says(store: BaseStore, name: str) -> None:
    await store.apply(NS, MEMORIES)
    filters, ids = CASES[name]
    for mode in MODES:
        found = await store.search(NS, "red tea", mode=mode, filters=filters)
        assert sorted(hit.record.id for hit in found) == list(ids), mode
        assert all(filters.matches(hit.record) for hit in found)


async def test_a_memory_without_dates_is_about_the_time_it_was_stored(store: BaseStore) -> None:
    [record] = (await store.apply(NS, [add("a", "red tea")])).records
    assert record is not None
    stored, moment = record.created_at, timedelta(microseconds=1)
    for filters, count in (
        (Filters(since=stored), 1),
        (Filters(since=stored + moment), 0),
        (Filters(until=stored), 0),
        (Filters(until=stored + moment), 1),
        (Filters(since=stored.astimezone(EAST), until=(stored + moment).astimezone(WEST)), 1),
        (Filters(valid_at=datetime(1970, 1, 1, tzinfo=UTC)), 1),
        (Filters(valid_at=datetime(2999, 1, 1, tzinfo=UTC)), 1),
    ):
        for mode in MODES:
            assert len(await store.search(NS, "red tea", mode=mode, filters=filters)) == count, (filters, mode)


async def test_times_are_kept_to_the_microsecond_and_before_1970(store: BaseStore) -> None:
    old = datetime(1953, 5, 29, 11, 30, 0, 123456, tzinfo=EAST)
    await store.apply(NS, [add("a", "Everest", valid_at=old), add("b", "Everest", valid_at=old + timedelta(microseconds=1))])
    record = await store.get(NS, "a")
    assert record is not None
    assert record.valid_at == old
    for mode in MODES:
        found = await store.search(NS, "Everest", mode=mode, filters=Filters(until=old + timedelta(microseconds=1)))
        assert [hit.record.id for hit in found] == ["a"]


@pytest.mark.parametrize("year", [1, 476, 1600, 1969, 2300, 9999])
async def test_any_year_may_be_asked_for(store: BaseStore, year: int) -> None:
    moment = datetime(year, 6, 1, tzinfo=EAST)
    await store.apply(NS, [add("then", "red tea", valid_at=moment), add("after", "red tea", valid_at=moment + SECOND)])
    for mode in MODES:
        for filters, ids in (
            (Filters(since=moment, until=moment + SECOND), {"then"}),
            (Filters(since=moment + SECOND), {"after"}),
            (Filters(valid_at=moment), {"then"}),
        ):
            found = await store.search(NS, "red tea", mode=mode, filters=filters, ranking=Ranking(recency=1))
            assert {hit.record.id for hit in found} == ids, (filters, mode)


async def test_what_passes_is_found_however_many_match_better(store: BaseStore) -> None:
    await store.apply(NS, [add(f"n{i}", "green tea") for i in range(300)])
    await store.apply(NS, [add(f"t{i}", f"green tea and much else of {i} other things", tags=["rare"]) for i in range(3)])
    for mode in MODES:
        found = await store.search(NS, "green tea", limit=3, mode=mode, filters=Filters(tags=("rare",)))
        assert {hit.record.id for hit in found} == {"t0", "t1", "t2"}, mode


async def test_filters_see_the_version_of_the_state_that_is_asked_for(store: BaseStore) -> None:
    await store.apply(NS, [add("a", "red tea", tags=["work"])])
    await store.apply(NS, [update("a", "red tea", tags=["home"])])
    for mode in MODES:
        for tag, as_of, count in (("work", None, 0), ("home", None, 1), ("work", 1, 1), ("home", 1, 0), ("work", 0, 0)):
            found = await store.search(NS, "red tea", mode=mode, filters=Filters(tags=(tag,)), as_of=as_of)
            assert len(found) == count, (tag, as_of, mode)
