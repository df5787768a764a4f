"""BM25 over postings in memory, and the fusion of text scores with cosines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recollect.memory import MemoryRecord, SearchHit

K1, B = 1.2, 0.75
DENSE_WEIGHT = 0.5
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


def bm25(parts: Sequence[Postings], query: Sequence[str], alive: Mask) -> Floats:
    """BM25 of every row of all parts, (rows,). Only rows in `alive` count as documents; the scores of the others mean nothing.

    Robertson and Zaragoza (2009), with the inverse document frequency of Lucene, which is never negative.
    """
    lengths = np.concatenate([part.lengths for part in parts]) if len(parts) != 1 else parts[0].lengths
    scores = np.zeros(len(lengths), np.float32)
    documents = int(alive.sum())
    if not documents:
        return scores
    mean = max(float(lengths[alive].sum()) / documents, 1e-9)
    base = K1 * (1 - B + B * lengths / mean)
    for term in query:
        rows, counts = _posting(parts, term)
        frequency = int(alive[rows].sum())
        if frequency:
            weight = np.log1p((documents - frequency + 0.5) / (frequency + 0.5))
            scores[rows] += weight * counts * (K1 + 1) / (counts + base[rows])
    return scores


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


def hits(dense: Floats | None, text: Floats | None, limit: int, record: Callable[[int], MemoryRecord]) -> list[SearchHit]:
    """The best of some rows, best first, from the parts of their scores; equal ones by age, the newest first.

    Without a dense part only rows that match, without a text part only rows that have a vector.
    """
    score = _combined(dense, text)
    found = np.flatnonzero(score > (0 if dense is None else -np.inf))
    best: list[SearchHit] = []
    for i in found[_top(score[found], limit)].tolist():
        parts = {name: float(part[i]) for name, part in (("dense", dense), ("text", text)) if part is not None and not np.isnan(part[i])}
        best.append(SearchHit(record=record(i), score=float(score[i]), parts=parts))
    return best


def _combined(dense: Floats | None, text: Floats | None) -> Floats:
    if dense is None:
        return np.zeros(0, np.float32) if text is None else text
    return np.where(np.isnan(dense), -np.inf, dense).astype(np.float32) if text is None else fuse(dense, text)


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
