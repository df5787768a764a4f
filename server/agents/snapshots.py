"""Recall of a reading's own earlier memories (ReMemR1, arXiv 2509.23040): the policy asks in a tag, the best match is shown next.

The paper ranks by TF-IDF; here by BM25 (k1 1.2, b 0.75), over the terms that full text search uses.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from memory_store.terms import query_terms, terms_of
from server.engines.base import Engine

K1, B = 1.2, 0.75
TAG = "<recall>"
_ASKED = re.compile(r"<recall>(.*?)</recall>", re.S)
T = TypeVar("T")


class Snapshots(Generic[T]):
    """The memories that a reading wrote, with an index of their terms: about 2 bytes for each of their characters."""

    def __init__(self) -> None:
        self._values: list[T] = []
        self._lengths = array("I")
        self._postings: dict[str, array[int]] = {}

    def add(self, value: T, text: str) -> None:
        """Keep a memory."""
        counts = Counter(terms_of(text))
        for term, count in counts.items():
            self._postings.setdefault(term, array("I")).extend((len(self._values), count))
        self._values.append(value)
        self._lengths.append(counts.total())

    def best(self, query: str) -> T | None:
        """The memory that matches best, of equals the latest; None if none has a term of the query."""
        scores: Counter[int] = Counter()
        mean = sum(self._lengths) / len(self._lengths) if self._lengths else 0.0
        for term in query_terms(query):
            found = self._postings.get(term, ())
            weight = math.log(1 + (len(self._values) - len(found) / 2 + 0.5) / (len(found) / 2 + 0.5))
            for number, count in zip(found[::2], found[1::2], strict=True):
                scores[number] += weight * count * (K1 + 1) / (count + K1 * (1 - B + B * self._lengths[number] / mean))  # pyright: ignore[reportArgumentType]
        return self._values[max(scores, key=lambda number: (scores[number], number))] if scores else None


class Said(NamedTuple):
    """What a completion says as memory, and what it asks for; None if it asks nothing."""

    memory: str
    query: str | None


def said(text: str) -> Said:
    """Part a completion at its tag. A tag that is never closed asks nothing, but is no part of the memory either."""
    asked = _ASKED.search(text)
    return Said(text.partition(TAG)[0].rstrip(), (asked[1].strip() or None) if asked else None)


async def ids_before(ids: Sequence[int], length: int, engine: Engine) -> list[int]:
    """The longest beginning of `ids` whose text has at most `length` characters: sampled ids, none of them changed."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high + 1) // 2
        if len(await engine.decode(ids[:middle])) <= length:
            low = middle
        else:
            high = middle - 1
    return list(ids[:low])
