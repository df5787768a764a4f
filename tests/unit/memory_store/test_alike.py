"""Groups of like vectors, and duplicates among records, against the plain loop over all pairs."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from memory_store.audit import alike
from memory_store.audit.alike import Floats, Group, groups, normal
from memory_store.audit.duplicates import exact, near
from recollect.memory import Kind, MemoryRecord, content_hash

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = (
    "Ada likes green tea",
    "Ada likes  green TEA",
    "Ada likes green tea a lot",
    "Ada likes 2 green teas",
    "Ada never likes green tea",
    "Bo",
)
records_of = st.lists(st.tuples(st.sampled_from(TEXTS), st.sampled_from(("semantic", "episodic"))), max_size=20)


def record(number: int, text: str, kind: Kind = "semantic", **more: object) -> MemoryRecord:
    fields = {"id": f"m{number}", "namespace": "user/a", "kind": kind, "text": text, "seq_from": number + 1, "created_at": NOW}
    return MemoryRecord.model_validate({**fields, "content_hash": content_hash(text), **more})


def plain(vectors: Floats, cosine: float, same: set[tuple[int, int]]) -> list[Group]:
    free = [True] * len(vectors)
    found: list[Group] = []
    for i in range(len(vectors)):
        if not free[i]:
            continue
        like = [j for j in range(i + 1, len(vectors)) if free[j] and vectors[i] @ vectors[j] >= cosine and (i, j) in same]
        for j in like:
            free[j] = False
        if like:
            found.append((i, [(j, float(vectors[i] @ vectors[j])) for j in like]))
    return found


@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), max_size=24),
    st.sampled_from((0.6, 0.85, 0.97)),
    st.sets(st.tuples(st.integers(0, 23), st.integers(0, 23))),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_blocks_of_any_size_find_the_groups_of_the_plain_loop(
    numbers: list[list[int]], cosine: float, differing: set[tuple[int, int]], rows: int, columns: int
) -> None:
    vectors = normal(np.array(numbers, np.float32).reshape(-1, 3))
    assume(not np.any(np.abs(vectors @ vectors.T - cosine) < 1e-4))
    same = {(i, j) for i in range(24) for j in range(24)} - differing
    steps: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alike, "ROWS", rows)
        patch.setattr(alike, "COLUMNS", columns)
        found = groups(vectors, cosine, lambda i, j: (i, j) in same, steps.append)
    expected = plain(vectors, cosine, same)
    assert [(i, [j for j, _ in members]) for i, members in found] == [(i, [j for j, _ in members]) for i, members in expected]
    assert np.allclose([c for _, ms in found for _, c in ms], [c for _, ms in expected for _, c in ms], atol=1e-5)
    assert steps[-1:] == ([len(vectors)] if len(vectors) else [])


@given(records_of)
def test_exact_duplicates_are_those_of_the_plain_loop_and_of_facts_the_newest_stays(given: list[tuple[str, Kind]]) -> None:
    records = [record(number, text, kind) for number, (text, kind) in enumerate(given)]
    found = exact(records)
    together = {frozenset((i, j)) for places in found for i in places for j in places if i != j}
    said = [(" ".join(r.text.lower().split()), r.kind) for r in records]
    assert together == {frozenset((i, j)) for i in range(len(said)) for j in range(i) if said[i] == said[j]}
    for places in found:
        assert places[0] == (max(places) if records[places[0]].kind == "semantic" else min(places))


def test_the_same_words_of_another_time_are_no_duplicate() -> None:
    later = record(1, "Ada lives in Oslo", valid_at=datetime(2026, 2, 1, tzinfo=UTC))
    assert exact([record(0, "Ada lives in Oslo"), later]) == []


@given(records_of)
def test_near_duplicates_have_the_same_kind_numbers_and_negation(given: list[tuple[str, Kind]]) -> None:
    records = [record(number, text, kind) for number, (text, kind) in enumerate(given)]
    found = near(records, np.ones((len(records), 2), np.float32) / np.float32(2**0.5), cosine=0.95, overlap=0.5)
    for leader, members in found:
        texts = {" ".join(records[place].text.lower().split()) for place in (leader, *(place for place, _ in members))}
        assert texts == {"ada likes green tea", "ada likes green tea a lot"}
        assert len({records[place].kind for place in (leader, *(place for place, _ in members))}) == 1
    for kind in ("semantic", "episodic"):
        texts = {text for text, its in given if its == kind}
        alike_ones = bool(texts & set(TEXTS[:2])) and TEXTS[2] in texts
        assert alike_ones == any(records[leader].kind == kind for leader, _ in found)


def test_alike_vectors_of_other_words_and_memories_without_a_vector_are_no_duplicates() -> None:
    records = [record(0, "Ada likes green tea"), record(1, "Bo plays the cello"), record(2, "Ada likes green tea a lot")]
    vectors = np.array([[1, 0], [1, 0], [0, 0]], np.float32)
    assert near(records, vectors, cosine=0.9, overlap=0.5) == []
    assert near(records, np.zeros((3, 0), np.float32), cosine=0.9, overlap=0.5) == []
