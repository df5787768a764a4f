"""Base level: search by words, by meaning, and by both."""

from __future__ import annotations

import pytest

from recollect.memory import Filters
from recollect.stores import BaseStore
from tests.conformance.writes import MODES, NS, add, texts


async def test_a_write_is_found_at_once_in_every_mode(store: BaseStore) -> None:
    for i in range(30):
        await store.apply(NS, [add(f"n{i}", f"note {i} about subject{i}")])
        for mode in MODES:
            best = (await store.search(NS, f"subject{i}", limit=1, mode=mode))[0]
            assert best.record.id == f"n{i}", mode
            assert set(best.parts) == {"hybrid": {"dense", "text"}, "dense": {"dense"}, "text": {"text"}}[mode]


async def test_search_is_ordered_limited_and_filtered_by_kind(store: BaseStore) -> None:
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


async def test_text_search_returns_only_what_matches(store: BaseStore) -> None:
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
async def test_no_query_text_is_an_error(store: BaseStore, query: str) -> None:
    await store.apply(NS, [add("a", "何か 日本語 🙂 x"), add("b", "plain; DROP TABLE")])
    for mode in MODES:
        assert len(await store.search(NS, query, mode=mode)) <= 2
    assert len(await texts(store)) == 2
