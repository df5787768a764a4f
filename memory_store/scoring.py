"""BM25 over postings in memory, and the fusion of text scores with cosines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from memory_store.context import Windows, sums
from recollect.memory import MemoryRecord, Ranking, SearchHit, about

K1, B = 1.2, 0.75
DENSE_WEIGHT = 0.5
RELEVANCE = Ranking()
"""Nothing else counts."""
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Posting = tuple[NDArray[np.int32], Floats]


@dataclass(frozen=True, slots=True)
class Postings:
    """Which rows hold a term how often (rows ascending), and the number of terms of every row."""

    terms: dict[str, Posting]
    lengths: Floats

    @classmethod
    def of(cls, documents: Iterable[Sequence[str]]) -> Postings:
        found: dict[str, tuple[list[int], list[int]]] = {}
        lengths: list[int] = []
        for row, document in enumerate(documents):
            lengths.append(len(document))
            for term, count in Counter(document).items():
                rows, counts = found.setdefault(term, ([], []))
                rows.append(row)
                counts.append(count)
        terms = {term: (np.array(rows, np.int32), np.array(counts, np.float32)) for term, (rows, counts) in found.items()}
        return cls(terms, np.array(lengths, np.float32))

    def joined(self, other: Postings) -> Postings:
        """These rows, then the other's."""
        shift = len(self.lengths)
        terms = dict(self.terms)
        for term, (rows, counts) in other.terms.items():
            mine = terms.get(term)
            moved = rows + np.int32(shift)
            terms[term] = (np.concatenate((mine[0], moved)), np.concatenate((mine[1], counts))) if mine else (moved, counts)
        return Postings(terms, np.concatenate((self.lengths, other.lengths)))


def bm25(parts: Sequence[Postings], query: Sequence[str], alive: Mask, near: Windows | None = None) -> Floats:
    """BM25 of every row of all parts, (rows,). Only rows in `alive` count as documents; the scores of the others mean nothing.

    Robertson and Zaragoza (2009), with the inverse document frequency of Lucene, which is never negative. With `near`,
    each row's document is its whole window.
    """
    lengths = np.concatenate([part.lengths for part in parts]) if len(parts) != 1 else parts[0].lengths
    if near is not None:
        lengths = sums(np.where(alive, lengths, 0).astype(np.float32), near)
    scores = np.zeros(len(lengths), np.float32)
    documents = int(alive.sum())
    if not documents:
        return scores
    mean = max(float(lengths[alive].sum()) / documents, 1e-9)
    base = K1 * (1 - B + B * lengths / mean)
    for term in query:
        rows, counts = _posting(parts, term)
        if near is not None:
            rows, counts = _spread(rows, counts, near)
        frequency = int(alive[rows].sum())
        if frequency:
            weight = np.log1p((documents - frequency + 0.5) / (frequency + 0.5))
            scores[rows] += weight * counts * (K1 + 1) / (counts + base[rows])
    return scores


def _spread(rows: NDArray[np.int32], counts: Floats, near: Windows) -> Posting:
    """A term's posting over windows: windows are mutual, so each row's count goes to all rows of its window."""
    num_rows, width = near.shape
    counted = np.bincount(near[rows].ravel(), np.repeat(counts, width), minlength=num_rows + 1)[:num_rows]
    found = np.flatnonzero(counted).astype(np.int32)
    return found, counted[found].astype(np.float32)


def _posting(parts: Sequence[Postings], term: str) -> Posting:
    rows: list[NDArray[np.int32]] = []
    counts: list[Floats] = []
    start = 0
    for part in parts:
        if (posting := part.terms.get(term)) is not None:
            rows.append(posting[0] + np.int32(start) if start else posting[0])
            counts.append(posting[1])
        start += len(part.lengths)
    if len(rows) == 1:
        return rows[0], counts[0]
    return (np.concatenate(rows), np.concatenate(counts)) if rows else (np.zeros(0, np.int32), np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True)
class Boosts:
    """What a ranking adds to relevance: recency and importance of some rows, each (rows,) between 0 and 1, and their weights."""

    recency: Floats | None = None
    importance: Floats | None = None
    ranking: Ranking = RELEVANCE

    @classmethod
    def of(cls, ranking: Ranking, newest: datetime | None, records: Sequence[MemoryRecord]) -> Boosts:
        """Recency is halved by every half-life that a record is older than `newest`; importance that nobody gave is 0."""
        recency = importance = None
        if ranking.recency and newest is not None:
            days = [max(0.0, (newest - about(record)).total_seconds() / 86_400) for record in records]
            recency = np.exp2(-np.array(days, np.float32) / np.float32(ranking.half_life_days)).astype(np.float32)
        if ranking.importance:
            importance = np.array([record.importance or 0.0 for record in records], np.float32)
        return cls(recency, importance, ranking)

    def added_to(self, relevance: Floats) -> Floats:
        """The scores. Where something is added, relevance counts from 0 to 1."""
        if self.recency is None and self.importance is None:
            return relevance
        total = np.where(np.isfinite(relevance), _to_one(np.maximum(relevance, 0)), relevance).astype(np.float32)
        if self.recency is not None:
            total += np.float32(self.ranking.recency) * self.recency
        if self.importance is not None:
            total += np.float32(self.ranking.importance) * self.importance
        return total


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the scores of some rows, each (rows,) or None where it does not count. A NaN stands for no vector."""

    dense: Floats | None
    text: Floats | None
    dense_context: Floats | None = None
    text_context: Floats | None = None
    boosts: Boosts = Boosts()

    def of(self, i: int) -> dict[str, float]:
        """The parts of one row, by name."""
        named = {
            "dense": self.dense,
            "text": self.text,
            "dense_context": self.dense_context,
            "text_context": self.text_context,
            "recency": self.boosts.recency,
            "importance": self.boosts.importance,
        }
        return {name: float(part[i]) for name, part in named.items() if part is not None and not np.isnan(part[i])}

    def relevance(self) -> Floats:
        """What a row says and its context count the same, and so do words and meaning."""
        dense, text = _mean(self.dense, self.dense_context), _mean(self.text, self.text_context)
        if dense is None:
            return np.zeros(0, np.float32) if text is None else text
        return np.where(np.isnan(dense), -np.inf, dense).astype(np.float32) if text is None else fuse(dense, text)


def ranked(parts: Parts, limit: int) -> list[tuple[int, float]]:
    """The places and scores of the best of some rows, best first; equal ones by age, the newest first.

    Without a dense part only rows that match, or whose context does; without a text part only rows that have a vector.
    """
    relevance = parts.relevance()
    score = parts.boosts.added_to(relevance)
    found = np.flatnonzero(relevance > (0 if parts.dense is None else -np.inf))
    return [(place, float(score[place])) for place in found[_top(score[found], limit)].tolist()]


def hits(parts: Parts, limit: int, record: Callable[[int], MemoryRecord]) -> list[SearchHit]:
    """The best of some rows, best first, from the parts of their scores."""
    return [SearchHit(record=record(place), score=score, parts=parts.of(place)) for place, score in ranked(parts, limit)]


def _mean(own: Floats | None, context: Floats | None) -> Floats | None:
    return own if own is None or context is None else ((own + context) / 2).astype(np.float32)


def _top(scores: Floats, limit: int) -> NDArray[np.intp]:
    """The places of the highest scores, best first; of equal ones the last is first."""
    places = np.arange(len(scores))
    if len(scores) > 4 * limit:
        places = np.flatnonzero(scores >= np.partition(scores, -limit)[-limit])
    return places[::-1][np.argsort(-scores[places][::-1], kind="stable")][:limit]


def fuse(dense: Floats, text: Floats) -> Floats:
    """One score of cosines and BM25 scores of the same rows: a convex combination, each part divided by its maximum for the query.

    Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval" (2023): better than reciprocal ranks. A
    negative cosine counts as 0, and so does a row without a vector (NaN).
    """
    return (DENSE_WEIGHT * _to_one(np.nan_to_num(dense)) + (1 - DENSE_WEIGHT) * _to_one(text)).astype(np.float32)


def _to_one(scores: Floats) -> Floats:
    highest = float(scores.max(initial=0)) or 1.0
    return (np.maximum(scores, 0) / highest).astype(np.float32)
