"""Episodic memories are found by what was said around them in their session, and only by that."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from memory_store.context import means, sums, windows
from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.memory import Kind, MemoryWrite, Namespace, Provenance

SPACE = Namespace(parts=(("user", "ada"),))


def test_a_window_is_the_row_and_two_rows_on_either_side_of_its_session() -> None:
    sessions = np.array([7, 7, 9, 7, 7, 0, 7], np.int64)
    alive = np.array([True, True, True, True, False, True, True])
    found = windows(sessions, np.arange(7), alive)
    assert found is not None
    members = [sorted(place for place in row if place < len(sessions)) for row in found.tolist()]
    assert members == [[0, 1, 3], [0, 1, 3, 6], [2], [0, 1, 3, 6], [], [5], [1, 3, 6]]
    values = np.array([1, 2, 4, 8, 16, 32, np.nan], np.float32)
    assert sums(np.nan_to_num(values), found).tolist() == [11, 11, 4, 11, 0, 32, 10]
    assert means(values, found)[1] == pytest.approx(11 / 3)


def test_rows_without_neighbours_have_no_windows() -> None:
    assert windows(np.array([1, 2, 0], np.int64), np.arange(3), np.ones(3, np.bool_)) is None
    assert windows(np.array([1, 1], np.int64), np.arange(2), np.array([True, False])) is None
    assert windows(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_)) is None


async def _told(path: Path, kind: Kind, sessions: list[str | None]) -> LanceMemoryStore:
    store = LanceMemoryStore(path, HashEmbedder())
    texts = ["Where did you put the bicycle?", "Behind the shed.", "I bake bread on Sundays.", "The weather was grey."]
    for number, (text, session) in enumerate(zip(texts, sessions, strict=True)):
        write = MemoryWrite(op="add", id=f"m{number}", text=text, kind=kind, provenance=Provenance(session=session))
        await store.apply(SPACE, [write])
    return store


@pytest.mark.parametrize("mode", ["text", "hybrid"])
async def test_an_answer_is_found_by_the_question_before_it(tmp_path: Path, mode: str) -> None:
    store = await _told(tmp_path, "episodic", ["monday", "monday", "friday", "sunday"])
    try:
        hits = await store.search(SPACE, "bicycle", mode="text" if mode == "text" else "hybrid")
        assert [hit.record.id for hit in hits[:2]] == ["m0", "m1"]
        assert hits[1].parts["text"] == 0
        assert hits[1].parts["text_context"] > 0
        fork = await store.fork(SPACE)
        assert await fork.search(SPACE, "bicycle", mode="text") == await store.search(SPACE, "bicycle", mode="text")
    finally:
        await store.close()


@pytest.mark.parametrize(("kind", "session"), [("semantic", "monday"), ("episodic", None)])
async def test_facts_and_turns_of_no_session_are_found_by_themselves(tmp_path: Path, kind: Kind, session: str | None) -> None:
    store = await _told(tmp_path, kind, [session] * 4)
    try:
        hits = await store.search(SPACE, "bicycle", mode="text")
        assert [hit.record.id for hit in hits] == ["m0"]
        assert set(hits[0].parts) == {"text"}
    finally:
        await store.close()


async def test_the_context_of_an_earlier_state_is_that_of_then(tmp_path: Path) -> None:
    store = await _told(tmp_path, "episodic", ["monday"] * 4)
    try:
        before = await store.search(SPACE, "bicycle", mode="text", as_of=1)
        assert [hit.record.id for hit in before] == ["m0"]
        await store.apply(SPACE, [MemoryWrite(op="delete", id="m0")])
        assert await store.search(SPACE, "bicycle", mode="text") == []
        then = await store.search(SPACE, "bicycle", mode="text", as_of=2)
        assert [hit.record.id for hit in then] == ["m0", "m1"]
        assert all(hit.record.created_at < datetime.now(UTC) for hit in then)
    finally:
        await store.close()
