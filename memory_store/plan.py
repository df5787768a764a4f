"""What a batch of writes does to a namespace: pure, and the same for the store and for a fork."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from memory_store.rows import MAX_BATCH, Row, new_row
from recollect.errors import Conflict, InvalidRequest, NotFound
from recollect.memory import MAX_TEXT, MEMORY_ID, MemoryRecord, MemoryWrite, content_hash

Vector = NDArray[np.float32]
MAX_TAGS, MAX_TAG = 32, 64
MAX_KEY = 256


@dataclass(frozen=True, slots=True)
class Planned:
    """The rows to merge by key (empty: nothing to do), and for each write the row that is then current."""

    rows: tuple[Row, ...]
    results: tuple[Row | None, ...]

    @property
    def records(self) -> tuple[MemoryRecord | None, ...]:
        return tuple(row and row.record for row in self.results)


def check(writes: Sequence[MemoryWrite]) -> None:
    """Refuse what no state could accept. Raises InvalidRequest that names the write and the field."""
    if len(writes) >= MAX_BATCH:
        raise InvalidRequest(f"{len(writes)} writes are too many for one batch; the limit is {MAX_BATCH - 1}", param="writes")
    for i, write in enumerate(writes):
        if not MEMORY_ID.fullmatch(write.id):
            raise InvalidRequest(f"{write.id!r} is no memory id: use 1 to 128 letters, digits and '_.:-'", param=f"writes.{i}.id")
        if write.op != "delete":
            _check_text(write.text, f"writes.{i}.text")
        for name, value in write.metadata.items():
            if len(name) > MAX_KEY:
                raise InvalidRequest(f"a metadata key has {len(name)} characters; the limit is {MAX_KEY}", param=f"writes.{i}.metadata")
            if isinstance(value, float) and not math.isfinite(value):
                raise InvalidRequest(f"metadata {name!r} is {value}; use a finite number", param=f"writes.{i}.metadata.{name}")
            check_unicode(f"{name}{value}", f"writes.{i}.metadata.{name}")
        if write.provenance.session is not None:
            check_unicode(write.provenance.session, f"writes.{i}.provenance.session")
        _check_tags(write.tags, f"writes.{i}.tags")
        if write.importance is not None and not 0 <= write.importance <= 1:
            raise InvalidRequest(f"importance is {write.importance}; use a number from 0 to 1", param=f"writes.{i}.importance")
        for name, time in (("valid_at", write.valid_at), ("invalid_at", write.invalid_at)):
            check_time(time, f"writes.{i}.{name}")


def check_time(time: datetime | None, param: str) -> None:
    """Refuse a time without a zone, and one that has no place in UTC's years 1 to 9999. Raises InvalidRequest."""
    if time is None:
        return
    if time.tzinfo is None:
        raise InvalidRequest(f"{param.rpartition('.')[2]} has no time zone; write 2026-01-31T12:00:00Z", param=param)
    try:
        time.astimezone(UTC)
    except OverflowError as exc:
        raise InvalidRequest(f"{time} is not within the years 1 to 9999 of UTC", param=param) from exc


def _check_tags(tags: Sequence[str], param: str) -> None:
    if len(tags) > MAX_TAGS:
        raise InvalidRequest(f"{len(tags)} tags are too many; the limit is {MAX_TAGS}", param=param)
    for number, tag in enumerate(tags):
        if not tag.strip() or len(tag) > MAX_TAG:
            raise InvalidRequest(f"a tag has 1 to {MAX_TAG} characters", param=f"{param}.{number}")
        check_unicode(tag, f"{param}.{number}")


def _check_text(text: str, param: str) -> None:
    if not text.strip():
        raise InvalidRequest("a memory needs a text", param=param)
    if len(text) > MAX_TEXT:
        raise InvalidRequest(f"the text has {len(text)} characters; the limit is {MAX_TEXT}", param=param)
    check_unicode(text, param)


def check_unicode(text: str, param: str) -> None:
    """Refuse what cannot be stored. Raises InvalidRequest."""
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequest("the text is no valid Unicode: it holds half of a surrogate pair", param=param) from exc


def plan(
    namespace: str,
    writes: Sequence[MemoryWrite],
    vectors: Mapping[str, Vector],
    seq: int,
    current: Mapping[str, Row],
    now: datetime,
) -> Planned:
    """What `writes` do as commit `seq` to the `current` rows by id. `vectors` are by text. Raises Conflict, NotFound.

    Later writes of a batch see the earlier ones; a version that lives only inside the batch is never written. The first
    row of a commit always has index 0: two writers that choose the same `seq` so write the same key, and collide.
    """
    live: dict[str, Row | None] = {}
    changed: dict[int, Row] = {}
    unused = 0
    for position, write in enumerate(writes):
        old = live[write.id] if write.id in live else current.get(write.id)
        if _is_repeat(write, old):
            live[write.id] = old
            continue
        _refuse(write, old, position)
        if old is not None and old.record.seq_from == seq:
            index = old.index
        else:
            index, unused = unused, unused + 1
            if old is not None:
                changed[old.key] = old.closed(seq)
        vector = vectors.get(write.text) if write.op != "delete" else None
        row = new_row(_record(namespace, write, seq, now), index, vector, _born(old, seq))
        changed[row.key] = row
        live[write.id] = None if write.op == "delete" else row
    return Planned(tuple(changed.values()), tuple(live[write.id] for write in writes))


def _born(old: Row | None, seq: int) -> int | None:
    """The key of the first version, for a version of a memory that an earlier commit began."""
    if old is None:
        return None
    return old.born if old.record.seq_from == seq else old.order


def _is_repeat(write: MemoryWrite, old: Row | None) -> bool:
    """Whether the write was done before: so a batch whose acknowledgement was lost can be sent again."""
    if old is None or write.op == "delete" or old.record.text != write.text:
        return False
    if write.op == "add":
        return True
    names = ("kind", "metadata", "valid_at", "invalid_at", "trust", "tags", "importance")
    same = all(getattr(old.record, name) == getattr(write, name) for name in names)
    return same and old.record.provenance.session == write.provenance.session


def _refuse(write: MemoryWrite, old: Row | None, index: int) -> None:
    if write.op == "add" and old is not None:
        raise Conflict(f"memory {write.id!r} exists with another text; update it, or choose another id", param=f"writes.{index}.id")
    if write.if_seq is not None and old is not None and old.record.seq_from != write.if_seq:
        raise Conflict(
            f"memory {write.id!r} was changed: its version is of seq {old.record.seq_from}, not {write.if_seq}; read it again",
            param=f"writes.{index}.if_seq",
        )
    if write.op != "add" and old is None:
        raise NotFound(f"no memory {write.id!r}; search or list shows the ids", param=f"writes.{index}.id")


def _record(namespace: str, write: MemoryWrite, seq: int, now: datetime) -> MemoryRecord:
    deleted = write.op == "delete"
    text = "" if deleted else write.text
    return MemoryRecord(
        id=write.id,
        namespace=namespace,
        kind=write.kind,
        text=text,
        metadata={} if deleted else write.metadata,
        valid_at=write.valid_at,
        invalid_at=write.invalid_at,
        seq_from=seq,
        seq_to=seq if deleted else None,
        created_at=now,
        provenance=write.provenance,
        trust=write.trust,
        tags=() if deleted else write.tags,
        importance=write.importance,
        content_hash=content_hash(text),
    )
