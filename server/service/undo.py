"""Taking the last change of a memory back."""

from __future__ import annotations

from collections.abc import Sequence

from recollect.errors import Conflict
from recollect.memory import MemoryRecord, MemoryWrite, Provenance


def undoing(versions: Sequence[MemoryRecord], *, channel: str) -> MemoryWrite:
    """The write that makes the version before the current one current again; of a deleted memory its last one.

    `versions`: all of a memory, oldest first, at least one. Raises Conflict if the current one is the only one.
    """
    current = versions[-1] if versions[-1].seq_to is None else None
    if current is not None and len(versions) == 1:
        raise Conflict(f"memory {current.id!r} has no earlier version; to take it away, delete it", param="id", code="nothing_to_undo")
    old = versions[-1] if current is None else versions[-2]
    return MemoryWrite(
        op="add" if current is None else "update",
        id=old.id,
        text=old.text,
        kind=old.kind,
        metadata=old.metadata,
        valid_at=old.valid_at,
        invalid_at=old.invalid_at,
        provenance=Provenance(channel=channel, session=old.provenance.session),
        trust=old.trust,
        tags=old.tags,
        importance=old.importance,
        if_seq=None if current is None else current.seq_from,
    )
