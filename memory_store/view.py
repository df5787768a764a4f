"""A namespace in memory: every version of every memory, searched exactly, as of any `seq`.

A view is immutable. A newer view shares the older one's segments and adds its own, so the store's hot reads and any
number of forks stand on the same arrays.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import accumulate
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from memory_store.context import Windows, around, means, session_code, session_codes, windows
from memory_store.query import Query
from memory_store.rows import OPEN, Row, last_seq
from memory_store.scoring import Boosts, Floats, Mask, Parts, Postings, bm25, hits
from recollect.memory import Filters, Kind, MemoryRecord, Ranking, SearchHit, about

KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows in the order of their keys, and the arrays that searching needs."""

    rows: tuple[Row, ...]
    seq_from: NDArray[np.int64]
    kinds: NDArray[np.int8]
    """Places in `KINDS`."""
    sessions: NDArray[np.int64]
    """Equal for neighbours (context.py); 0: none."""
    order: NDArray[np.int64]
    """Where each row's memory stands in its session."""
    matrix: Floats | None
    """(rows, dimension); NaN where a row has no vector. None: no row has one."""
    postings: Postings
    places: dict[str, tuple[int, ...]]
    """The places of every id, oldest first."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Segment:
        seq_from = np.array([row.record.seq_from for row in rows], np.int64)
        kinds = np.array([KINDS.index(row.record.kind) for row in rows], np.int8)
        sessions = session_codes(row.record for row in rows)
        order = np.array([row.order for row in rows], np.int64)
        return cls(tuple(rows), seq_from, kinds, sessions, order, _matrix(rows), Postings.of(row.terms for row in rows), _places(rows))

    def joined(self, other: Segment) -> Segment:
        """These rows, then the other's."""
        rows = self.rows + other.rows
        return Segment(
            rows,
            np.concatenate((self.seq_from, other.seq_from)),
            np.concatenate((self.kinds, other.kinds)),
            np.concatenate((self.sessions, other.sessions)),
            np.concatenate((self.order, other.order)),
            _matrix(rows),
            self.postings.joined(other.postings),
            _places(rows),
        )


def _matrix(rows: Sequence[Row]) -> Floats | None:
    dimension = next((len(row.vector) for row in rows if row.vector is not None), 0)
    if not dimension:
        return None
    blank = np.full(dimension, np.nan, np.float32)
    return np.stack([blank if row.vector is None else row.vector for row in rows])


def _places(rows: Sequence[Row]) -> dict[str, tuple[int, ...]]:
    places: dict[str, tuple[int, ...]] = {}
    for place, row in enumerate(rows):
        places[row.record.id] = (*places.get(row.record.id, ()), place)
    return places


class View:
    """The state at `seq` and at every `seq` before it."""

    def __init__(self, segments: tuple[Segment, ...], seq_to: NDArray[np.int64], seq: int) -> None:
        self.seq = seq
        self._segments = segments
        self._seq_to = seq_to
        self._starts = [*accumulate((len(segment.rows) for segment in segments), initial=0)]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> View:
        """A view of all rows of a namespace."""
        return cls((), np.zeros(0, np.int64), 0).advanced(rows)

    def __len__(self) -> int:
        return len(self._seq_to)

    def advanced(self, rows: Iterable[Row]) -> View:
        """The view after commits that wrote `rows`: closed ones replace their open selves, the others are new."""
        rows = sorted(rows, key=lambda row: row.key)
        seq_to = self._seq_to.copy()
        new: list[Row] = []
        for row in rows:
            place = self._place_of(row) if row.record.seq_from <= self.seq else None
            if place is None:
                new.append(row)
            else:
                seq_to[place] = _seq_to(row)
        if not new:
            return View(self._segments, seq_to, max([self.seq, *(row.record.seq_to or 0 for row in rows)]))
        added = np.array([_seq_to(row) for row in new], np.int64)
        return View(_appended(self._segments, Segment.of(new)), np.concatenate((seq_to, added)), last_seq(new))

    def at(self, seq: int) -> View:
        """The same view, ending at `seq`: what came later was never there."""
        if seq >= self.seq:
            return self
        seq_to = np.where(self._seq_to > seq, OPEN, self._seq_to)
        later = np.concatenate([segment.seq_from for segment in self._segments]) > seq
        return View(self._segments, np.where(later, 0, seq_to), seq)

    @property
    def lacks_vectors(self) -> bool:
        """Whether a row has no vector."""
        alive = self._seq_to > self._all_from()
        blanks = (np.ones(len(s.rows), np.bool_) if s.matrix is None else np.isnan(s.matrix[:, 0]) for s in self._segments)
        return any(bool((blank & alive[start : start + len(blank)]).any()) for start, blank in zip(self._starts, blanks, strict=False))

    def row(self, memory_id: str) -> Row | None:
        """The current row of an id."""
        place = next((place for place, _ in self._versions(memory_id) if self._seq_to[place] == OPEN), None)
        return None if place is None else self._row(place)

    def get(self, memory_id: str, as_of: int | None) -> MemoryRecord | None:
        """The version of an id that is current, or was at `as_of`."""
        seq = self.seq if as_of is None else min(as_of, self.seq)
        versions = self._versions(memory_id)
        return next((self._record(place) for place, row in versions if row.record.seq_from <= seq < self._seq_to[place]), None)

    def history(self, memory_id: str) -> list[MemoryRecord]:
        """Every version that was ever current, oldest first."""
        return [self._record(place) for place, row in self._versions(memory_id) if self._seq_to[place] > row.record.seq_from]

    def _versions(self, memory_id: str) -> Iterator[tuple[int, Row]]:
        """The places and rows of an id, oldest first."""
        for start, segment in zip(self._starts, self._segments, strict=False):
            for place in segment.places.get(memory_id, ()):
                yield start + place, segment.rows[place]

    def _row(self, place: int) -> Row:
        number = bisect_right(self._starts, place) - 1
        return self._segments[number].rows[place - self._starts[number]]

    def newest(self, limit: int, offset: int, kind: Kind | None, as_of: int | None) -> list[MemoryRecord]:
        """Records, newest first."""
        places = np.flatnonzero(self._alive(as_of) & self._of_kind(kind))[::-1]
        return [self._record(int(place)) for place in places[offset : offset + limit]]

    def oldest(self) -> list[MemoryRecord]:
        """All current records, oldest first."""
        return [self._record(int(place)) for place in np.flatnonzero(self._alive(None))]

    def rows(self) -> list[Row]:
        """All current rows, oldest first."""
        return [self._row(int(place)) for place in np.flatnonzero(self._alive(None))]

    def neighbours(self, memory_id: str, reach: int, as_of: int | None) -> list[MemoryRecord]:
        """An episodic memory with up to `reach` memories of its session before and after it, in their order."""
        record = self.get(memory_id, as_of)
        if record is None:
            return []
        code = session_code(record)
        if not code:
            return [record]
        places = np.flatnonzero(self._alive(as_of) & (self._sessions == code))
        together = [self._record(int(place)) for place in places[np.argsort(self._order[places], kind="stable")]]
        return around(together, memory_id, reach)

    def search(self, query: Query) -> list[SearchHit]:
        """The best records, best first: exact cosine and exact BM25 over all rows alive, each alone and in its context.

        In text mode only rows that match, or whose context does.
        """
        if not self._segments:
            return []
        alive = self._alive(query.as_of)
        near = self._windows if query.as_of is None or query.as_of >= self.seq else windows(self._sessions, self._order, alive)
        places = self._passing(query.filters, alive)
        text = text_context = dense = dense_context = None
        if query.mode != "dense":
            postings = [segment.postings for segment in self._segments]
            text = bm25(postings, query.terms, alive)[places]
            text_context = None if near is None else bm25(postings, query.terms, alive, near)[places]
        if query.vector is not None:
            cosines = self._cosines(query.vector)
            dense = cosines[places]
            dense_context = None if near is None else means(cosines, near)[places]
        parts = Parts(dense, text, dense_context, text_context, self._boosts(query.ranking, alive, places))
        return hits(parts, query.limit, lambda i: self._record(int(places[i])))

    def _passing(self, filters: Filters, alive: Mask) -> NDArray[np.intp]:
        """The places of the rows alive that the filters let pass."""
        places = np.flatnonzero(alive & self._of_kind(filters.kind))
        if filters == Filters(kind=filters.kind):
            return places
        return places[[filters.matches(self._row(int(place)).record) for place in places]] if len(places) else places

    def _boosts(self, ranking: Ranking, alive: Mask, places: NDArray[np.intp]) -> Boosts:
        if not (ranking.recency or ranking.importance):
            return Boosts()
        newest = max((about(self._row(int(place)).record) for place in np.flatnonzero(alive)), default=None)
        return Boosts.of(ranking, newest, [self._row(int(place)).record for place in places])

    @cached_property
    def _sessions(self) -> NDArray[np.int64]:
        return np.concatenate([segment.sessions for segment in self._segments])

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.concatenate([segment.order for segment in self._segments])

    @cached_property
    def _windows(self) -> Windows | None:
        """The windows of the current state."""
        return windows(self._sessions, self._order, self._alive(None))

    def _cosines(self, vector: Floats) -> Floats:
        return np.concatenate([np.full(len(s.rows), np.nan, np.float32) if s.matrix is None else s.matrix @ vector for s in self._segments])

    def _alive(self, as_of: int | None) -> Mask:
        if as_of is None or as_of >= self.seq:
            return self._seq_to == OPEN
        return (self._seq_to > as_of) & (self._all_from() <= as_of)

    def _all_from(self) -> NDArray[np.int64]:
        return np.concatenate([segment.seq_from for segment in self._segments]) if self._segments else np.zeros(0, np.int64)

    def _of_kind(self, kind: Kind | None) -> Mask:
        if kind is None or not self._segments:
            return np.ones(len(self), np.bool_)
        kinds: NDArray[np.int8] = np.concatenate([segment.kinds for segment in self._segments])
        return kinds == KINDS.index(kind)

    def _record(self, place: int) -> MemoryRecord:
        """The record with the `seq_to` that this view knows."""
        record = self._row(place).record
        seq_to = None if self._seq_to[place] == OPEN else int(self._seq_to[place])
        return record if record.seq_to == seq_to else record.model_copy(update={"seq_to": seq_to})

    def _place_of(self, row: Row) -> int | None:
        # A row that was written after the `seq` at which this view ends is hidden, and may have the key of a new one.
        versions = self._versions(row.record.id)
        return next((place for place, mine in versions if mine.key == row.key and self._seq_to[place] >= mine.record.seq_from), None)


def _seq_to(row: Row) -> int:
    return OPEN if row.record.seq_to is None else row.record.seq_to


def _appended(segments: tuple[Segment, ...], new: Segment) -> tuple[Segment, ...]:
    """The segments and a new one; the last ones are joined while they are of like size, so there are few, and joining is rare."""
    stack = [*segments, new]
    tail = [stack.pop()]
    while stack and len(stack[-1].rows) <= 2 * sum(len(segment.rows) for segment in tail):
        tail.insert(0, stack.pop())
    return (*stack, reduce(Segment.joined, tail))
