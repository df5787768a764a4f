"""How many hits fit into a number of tokens."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from recollect.memory import Context, MemoryRecord, SearchHit, content_hash
from server.service.token_budget import fitting, tokens_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(text: str) -> MemoryRecord:
    return MemoryRecord(id="m", namespace="user/1", kind="semantic", text=text, seq_from=1, created_at=NOW, content_hash=content_hash(text))


def hit(text: str, *around: str) -> SearchHit:
    return SearchHit(record=record(text), score=1.0, context=Context(before=tuple(map(record, around))) if around else None)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("ä" * 4, 2), ("日本語", 3), ("🙂", 1)])
def test_a_token_is_four_bytes_rounded_up(text: str, tokens: int) -> None:
    assert tokens_of(text) == tokens


@pytest.mark.parametrize(("max_tokens", "count"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 3), (100, 3)])
def test_hits_are_taken_while_they_fit_and_the_first_always(max_tokens: int, count: int) -> None:
    hits = [hit("12345678"), hit("1234"), hit("12345678901")]
    assert fitting(hits, max_tokens) == hits[:count]


def test_a_hit_that_does_not_fit_ends_the_list_though_a_later_one_would_fit() -> None:
    hits = [hit("1234"), hit("1234" * 9), hit("1234")]
    assert fitting(hits, 5) == hits[:1]
    assert fitting([], 5) == []


def test_what_stands_around_a_hit_counts() -> None:
    hits = [hit("1234", "1234", "1234"), hit("1234")]
    assert fitting(hits, 3) == hits[:1]
    assert fitting(hits, 4) == hits
