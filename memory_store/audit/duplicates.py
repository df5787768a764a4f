"""Memories that say the same: word for word, or nearly. Duplicates are of one kind: a turn and a fact drawn from it are two things."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import get_args

import numpy as np

from memory_store.audit.alike import Floats, Group, groups
from memory_store.audit.contradictions import differ
from memory_store.audit.statement import Statement, statement
from memory_store.terms import terms_of
from recollect.memory import Kind, MemoryRecord


def exact(records: Sequence[MemoryRecord]) -> list[list[int]]:
    """Groups of places whose records have the same text but for case and blanks, the same kind and the same validity.

    Records are given oldest first; the place that stays is the first of its group.
    """
    found: dict[Hashable, list[int]] = {}
    for place in by_claim(records):
        found.setdefault(_said(records[place]), []).append(place)
    return [places for places in found.values() if len(places) > 1]


def near(
    records: Sequence[MemoryRecord], vectors: Floats, *, cosine: float, overlap: float, advance: Callable[[int], None] = lambda _: None
) -> list[Group]:
    """Groups of places whose vectors are at least `cosine` to the one that stays, and that have its words, numbers and negation.

    `vectors`: (records, dimension), of length 1 or zero. `advance` is told how many records are done. Records of the same
    words are left to `exact`: of each such group only the one that stays is looked at.
    """
    repeated = {place for places in exact(records) for place in places[1:]}
    done = 0
    found: list[Group] = []
    for kind in get_args(Kind):
        places = [p for p in by_claim(records) if records[p].kind == kind and p not in repeated and vectors[p].any()]
        same = _same([records[place].text for place in places], overlap)
        for leader, members in groups(vectors[places], cosine, same, lambda count, before=done: advance(before + count)):
            found.append((places[leader], [(places[member], cos) for member, cos in members]))
        done += len(places)
    return found


def by_claim(records: Sequence[MemoryRecord]) -> Iterable[int]:
    """The places of records, given oldest first, in the order in which they may stay: of facts the newest first."""
    places = range(len(records))
    return [*(p for p in reversed(places) if records[p].kind == "semantic"), *(p for p in places if records[p].kind != "semantic")]


def _said(record: MemoryRecord) -> tuple[Kind, str, datetime | None, datetime | None]:
    return record.kind, " ".join(record.text.casefold().split()), record.valid_at, record.invalid_at


def _same(texts: Sequence[str], overlap: float) -> Callable[[int, int], bool]:
    """Whether two places say the same: texts that are alike in meaning are not, where a number or a name in them differs."""

    @cache
    def said(place: int) -> tuple[frozenset[str], Statement]:
        return frozenset(terms_of(texts[place])), statement(texts[place])

    def same(one: int, other: int) -> bool:
        (terms, first), (others, second) = said(one), said(other)
        if jaccard(terms, others) < overlap or first.numbers != second.numbers or first.negated != second.negated:
            return False
        return differ(first, second) is None

    return same


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of words that two texts have in common; 1 where neither has any."""
    together = len(one | other)
    return len(one & other) / together if together else 1.0


def with_vectors(vectors: Floats) -> int:
    """How many rows are no zero."""
    return int(np.count_nonzero(vectors.any(axis=1)))
