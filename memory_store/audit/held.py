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
    columns = [name for name in snapshot.dataset.schema.names if name != VECTOR]
    table = snapshot.dataset.to_table(columns=columns).sort_by("key")
    records = [row.record for row in from_arrow(table, snapshot.namespace) if not row.tombstone]
    current = [record for record in records if record.seq_to is None]
    return Held(snapshot.seq, records, current, _vectors(snapshot, len(current)))


def _vectors(snapshot: Snapshot, rows: int) -> Floats:
    """The vectors of the current rows in the order of their keys. Read apart: a table that is sorted with them holds them twice."""
    if VECTOR not in snapshot.dataset.schema.names or not rows:
        return np.zeros((rows, 0), np.float32)
    table = snapshot.dataset.to_table(columns=["key", VECTOR], filter=f"seq_to = {OPEN}")
    found = matrix(table)
    assert found is not None
    order = np.argsort(np.asarray(table["key"]))
    return normal(np.nan_to_num(found, copy=False)[order])
