"""What an audit reads of a table: all versions, and the vectors of the current ones."""

# pyright: basic
# because Arrow and Lance carry no types.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memory_store.arrow import VECTOR, from_arrow, matrix
from memory_store.audit.alike import Floats, normal
from memory_store.disk import Snapshot
from memory_store.rows import OPEN
from recollect.memory import MemoryRecord


@dataclass(frozen=True, slots=True)
class Held:
    """The memories of one moment."""

    seq: int
    versions: Sequence[MemoryRecord]
    """Every version that is or was current, oldest first."""
    current: Sequence[MemoryRecord]
    """Oldest first."""
    vectors: Floats
    """(current, dimension), of length 1; zero where a memory has none. Dimension 0 without an embedder."""


def held(snapshot: Snapshot | None) -> Held:
    """Read it, from the files and not into the views that searches keep. Blocking; run it in a thread."""
    if snapshot is None:
        return Held(0, (), (), np.zeros((0, 0), np.float32))
    table = snapshot.dataset.to_table().sort_by("key")
    rows = from_arrow(table.drop_columns([VECTOR] if VECTOR in table.column_names else []), snapshot.namespace)
    places = [place for place, seq_to in enumerate(table["seq_to"].to_pylist()) if seq_to == OPEN]
    vectors = matrix(table.select([VECTOR]).take(places)) if VECTOR in table.column_names and places else None
    found = np.zeros((len(places), 0), np.float32) if vectors is None else normal(np.nan_to_num(vectors, copy=False))
    versions = [row.record for row in rows if not row.tombstone]
    return Held(snapshot.seq, versions, [rows[place].record for place in places], found)
