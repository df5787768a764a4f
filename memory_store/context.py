"""The context of episodic memories: the turns before and after each one in its session, which search scores with it.

A turn is often found by what was said around it: an answer by its question, "she" by the name in the turn before. The
context of a turn is a window of itself and up to two turns on either side. Its terms are those of the window as one
document, its cosine is the mean over the window; nothing is stored for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from recollect.memory import MemoryRecord

REACH = 2
"""Turns on either side."""
Floats = NDArray[np.float32]
Windows = NDArray[np.int32]
"""(rows, 1 + 2 * REACH): the places in each row's window; the number of rows stands for none."""


def session_code(record: MemoryRecord) -> int:
    """A number that records of one session share; 0 for what has no neighbours."""
    if record.kind != "episodic" or record.provenance.session is None:
        return 0
    return int.from_bytes(hashlib.blake2b(record.provenance.session.encode(), digest_size=8).digest()) >> 1 | 1


def session_codes(records: Iterable[MemoryRecord]) -> NDArray[np.int64]:
    """The codes of some records, (records,)."""
    return np.array([session_code(record) for record in records], np.int64)


def windows(sessions: NDArray[np.int64], order: NDArray[np.int64], alive: NDArray[np.bool_]) -> Windows | None:
    """The windows of all rows; None if no row alive has a neighbour. A row that is not alive is in no window.

    `order`, (rows,), says how the memories of a session follow each other.
    """
    rows = len(sessions)
    places = np.flatnonzero(alive & (sessions != 0))
    in_sessions = places[np.lexsort((order[places], sessions[places]))]
    ordered = sessions[in_sessions]
    found = np.full((rows, 1 + 2 * REACH), rows, np.int32)
    found[alive, 0] = np.flatnonzero(alive)
    for distance in range(1, REACH + 1):
        together = np.flatnonzero(ordered[distance:] == ordered[:-distance])
        if distance == 1 and not len(together):
            return None
        earlier, later = in_sessions[together], in_sessions[together + distance]
        found[later, 2 * distance - 1] = earlier
        found[earlier, 2 * distance] = later
    return found


def around(session: Sequence[MemoryRecord], memory_id: str, reach: int) -> list[MemoryRecord]:
    """Of a session in its order, one memory with up to `reach` before and after it."""
    place = next(i for i, record in enumerate(session) if record.id == memory_id)
    return list(session[max(0, place - reach) : place + reach + 1])


def sums(values: Floats, found: Windows) -> Floats:
    """The sum of `values`, (rows,), over each window."""
    return np.append(values, np.float32(0))[found].sum(axis=1, dtype=np.float32)


def means(values: Floats, found: Windows) -> Floats:
    """The mean of `values`, (rows,), over each window; a NaN counts as absent, a window of nothing else is NaN."""
    present = ~np.isnan(values)
    count = sums(present.astype(np.float32), found)
    with np.errstate(invalid="ignore"):
        return (sums(np.where(present, values, 0).astype(np.float32), found) / np.where(count > 0, count, np.nan)).astype(np.float32)
