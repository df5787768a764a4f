"""Candidates for contradictions among facts, found by their words and confirmed by their vectors; no model is asked.

Two facts are a candidate if they hold at the same time, begin with the same subject, and differ in one place alone:
- one is negated and the other is not ("likes tea", "does not like tea", "hates tea");
- that place is a number ("has one dog", "has two dogs") or a date ("is due on Monday", "is due on Friday");
- it is the value of what has one value at a time ("lives in Lisbon", "moved to Oslo"; a name, a job, a favourite, an address).

What it cannot see: facts in other languages than English, of more than MAX_WORDS words, told in other words than the lists of
this module and of statement.py hold ("is a vegetarian", "ate a steak"), and differences in two places at once. Facts about
two subjects, and two values of what may have several ("likes tea", "likes coffee"), are no candidates. Neither is what once
was, nor what happened ("went to Rome in May").
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from memory_store.audit.alike import Floats
from memory_store.audit.statement import Statement, is_date, is_number, statement
from memory_store.terms import stem
from recollect.memory import MemoryRecord

MAX_WORDS = 24
MAX_SPAN = 4
"""Words of a value."""
MIN_COSINE = 0.5
"""Where both have vectors: facts that differ in one place are far above it, unless their words mean something else."""
EARLIER = 8
"""Each fact is compared with so many older ones that differ from it in the same place."""
Difference = Literal["value", "number", "date", "negation"]


def _stems(words: str) -> frozenset[str]:
    return frozenset(stem(word) for word in words.split())


_ONCE = _stems("born died founded created invented written performed developed")
"""What happened once: of these the past has one value too."""
_HAS_ONE = frozenset(("live", "work")) | _ONCE | _stems("prefer married engaged located citizen associated affiliated position")
"""What has one value at a time, up to three words before it ("is associated with the sport of");"""
_IS_ONE = _stems(
    """
    name birthday age job occupation profession employer address phone number email diet religion nationality hometown height
    weight size salary title deadline password code manager boss author director chairperson president chancellor minister king
    queen mayor governor ceo officer head capital headquarters founder creator owner developer
    """
)
"""as nouns, somewhere before "is";"""
_NAMED = _stems("called named")
"""and as what comes after "is"."""
_EVENTS = _stems(
    """
    go goes went visit visited run ran buy bought eat ate meet met see saw watch watched read play played attend attended pay paid
    get got make made take took book booked spend spent finish finished win won
    """
)
_JOINS = frozenset(("and", "or", "but", "because", "if"))
"""After one of these something else is told."""
_NO_VALUE = _JOINS | {"as", "with", "from", "be", "alone"}
"""A span that begins so is no value of the relation before it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The places of two facts that may contradict each other."""

    newer: int
    older: int
    differ_in: Difference
    cosine: float | None


def contradictions(records: Sequence[MemoryRecord], vectors: Floats | None) -> list[Pair]:
    """Candidates among current facts, which are given oldest first; pairs in the order of the newer ones, newest first.

    Facts that differ in one place share what stands before and after it, so that pairs are found by sorting these: the time
    grows with the facts, not with their pairs. `vectors`: (facts, dimension), of length 1 or zero.
    """
    statements = [statement(record.text) for record in records]
    found: dict[tuple[int, int], Pair] = {}
    for differ_in, places in _sharing(statements):
        for at, newer in enumerate(places):
            for older in places[max(0, at - EARLIER) : at]:
                if _conflict(differ_in, statements[newer], statements[older]) and overlap(records[newer], records[older]):
                    cosine = _cosine(vectors, newer, older)
                    if cosine is None or cosine >= MIN_COSINE:
                        found.setdefault((-newer, -older), Pair(newer, older, differ_in, cosine))
    return [found[places] for places in sorted(found)]


def differ(one: Statement, other: Statement) -> Difference | None:
    """In what two statements may contradict each other; None if they do not."""
    shared = {key[1:]: key[0] for key in keys(one)}
    for key in keys(other):
        if key[1:] in shared and shared[key[1:]] == key[0] and _conflict(key[0], one, other):
            return key[0]
    return None


def keys(said: Statement) -> Iterator[tuple[Difference, tuple[str, ...], tuple[str, ...] | None]]:
    """For each place in which another fact may differ: as what, and the words before and after it."""
    words = said.words
    if len(words) < 2 or len(words) > MAX_WORDS:
        return
    yield "negation", words, None
    for start in range(1, len(words)):
        for end in range(start + 1, min(start + MAX_SPAN, len(words)) + 1):
            before, span, after = words[:start], words[start:end], words[end:]
            if "be" in after or "live" in after:  # it is part of the subject
                continue
            if (differ_in := _role(before, span, said)) is not None:
                yield differ_in, before, after


def overlap(one: MemoryRecord, other: MemoryRecord) -> bool:
    """Whether two facts hold at the same time; without dates of its own a fact always does."""
    return _begins_before_end(one, other) and _begins_before_end(other, one)


def _begins_before_end(one: MemoryRecord, other: MemoryRecord) -> bool:
    return one.valid_at is None or other.invalid_at is None or one.valid_at < other.invalid_at


def _role(before: tuple[str, ...], span: tuple[str, ...], said: Statement) -> Difference | None:
    """What a span is of its statement: a number or a date of what did not just happen, the value of a relation, or neither."""
    happened = bool(_EVENTS & set(before)) and "be" not in before  # not so "the meeting is on Monday"
    if said.introduces or happened or span[0] in _NO_VALUE or _JOINS & set(span):
        return None
    if all(is_number(word) for word in span):
        return "number" if len(before) > 1 else None
    if all(is_number(word) or is_date(word) for word in span):
        return "date" if len(before) > 1 else None
    if any(is_number(word) or is_date(word) for word in span):
        return None
    return "value" if _has_one_value(before) and (not said.past or _ONCE & set(before)) else None


def _has_one_value(before: tuple[str, ...]) -> bool:
    """Whether what follows these words is the value of something that has one at a time."""
    near = set(before[1:][-3:])
    if near & _HAS_ONE and not near & _JOINS:
        return True
    if len(before) > 2 and before[-1] in _NAMED and before[-2] == "be":
        return True
    return len(before) > 2 and before[-1] == "be" and ("favourite" in before or bool(_IS_ONE & set(before)))


def _conflict(differ_in: Difference, one: Statement, other: Statement) -> bool:
    """Whether two statements that share a key of this kind contradict each other."""
    if one.past != other.past:
        return False
    if differ_in == "negation":
        return one.negated != other.negated
    if one.negated != other.negated or one.negated:
        return False
    mine, others = set(one.words), set(other.words)  # one that only says more is no contradiction
    return not mine <= others and not others <= mine


def _sharing(statements: Sequence[Statement]) -> Iterator[tuple[Difference, list[int]]]:
    """Places of statements that share a key, oldest first."""
    hashes, owners = array("q"), array("q")
    names: dict[int, Difference] = {}
    for place, said in enumerate(statements):
        for key in set(keys(said)):
            number = hash(key)
            names[number] = key[0]
            hashes.append(number)
            owners.append(place)
    keyed, places = np.asarray(hashes), np.asarray(owners)
    order = np.lexsort((places, keyed))
    keyed, places = keyed[order], places[order]
    ends = np.flatnonzero(np.diff(keyed, append=keyed[-1:] + 1)) + 1 if len(keyed) else np.zeros(0, np.int64)
    start = 0
    for end in ends.tolist():
        if end - start > 1:
            yield names[int(keyed[start])], places[start:end].tolist()
        start = end


def _cosine(vectors: Floats | None, one: int, other: int) -> float | None:
    if vectors is None or not vectors[one].any() or not vectors[other].any():
        return None
    return float(vectors[one] @ vectors[other])
