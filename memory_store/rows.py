"""The physical row of a memory: its key, its terms and its vector, before and after Lance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memory_store.terms import terms_of
from recollect.memory import MemoryRecord

OPEN = 2**62
"""`seq_to` of a row that is current; a number, because comparisons then need no case for null."""
MAX_BATCH = 2**20
ERASURE = "erased-"
"""The ids of rows that mark an erasure begin so: what was read before it is stale."""


@dataclass(frozen=True, slots=True)
class Space:
    """The vector space of an embedder. Dimension 0: none."""

    embedder: str = ""
    dimension: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One version of one memory and what it is found by.

    `index` is its place in the commit that wrote it, so that (`seq_from`, `index`) is unique in a namespace. A deletion
    leaves a tombstone, a row that was never current (`seq_to == seq_from`): every commit so writes a key of its own `seq`.
    """

    record: MemoryRecord
    index: int
    terms: tuple[str, ...]
    vector: NDArray[np.float32] | None = None
    born: int | None = None
    """The key of the memory's first version, where this is a later one."""

    @property
    def key(self) -> int:
        return self.record.seq_from * MAX_BATCH + self.index

    @property
    def order(self) -> int:
        """Where the memory stands among those of its session: an update leaves it in its place."""
        return self.key if self.born is None else self.born

    @property
    def tombstone(self) -> bool:
        return self.record.seq_to == self.record.seq_from

    @property
    def erasure(self) -> bool:
        return self.tombstone and self.record.id.startswith(ERASURE)

    def closed(self, seq: int) -> Row:
        """The same row, no longer current from `seq` on."""
        return replace(self, record=self.record.model_copy(update={"seq_to": seq}))


def new_row(record: MemoryRecord, index: int, vector: NDArray[np.float32] | None = None, born: int | None = None) -> Row:
    """A row with its terms: those of the text, and the day that it is about, because questions name days. A tombstone has none."""
    if record.seq_to == record.seq_from:
        return Row(record, index, (), None, born)
    day = f"{record.valid_at:%d %B %Y}" if record.valid_at else ""
    return Row(record, index, (*terms_of(record.text), *terms_of(day)), vector, born)


def last_seq(rows: Sequence[Row]) -> int:
    """The highest `seq` that any of the rows was written at; every commit writes at least one."""
    return max((row.record.seq_from for row in rows), default=0)
