"""What callers ask to be changed, as writes of the store: what an update does not name stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from recollect.errors import InvalidRequest, NotFound
from recollect.memory import Kind, MemoryRecord, MemoryWrite, Provenance, Scalar, Trust
from recollect.model import Frozen

NULLABLE = ("valid_at", "invalid_at", "importance", "session")
"""None takes these away; for the other fields it is as if they were not given."""


class Change(Frozen):
    """One operation. For an update only the fields that were set count."""

    op: Literal["add", "update", "delete"] = "add"
    id: str
    text: str | None = None
    kind: Kind | None = None
    metadata: dict[str, Scalar] | None = None
    tags: tuple[str, ...] | None = None
    importance: float | None = None
    trust: Trust | None = None
    valid_at: datetime | None = None
    invalid_at: datetime | None = None
    session: str | None = None
    if_seq: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The fields of a memory that it sets, by name."""
        named = self.model_fields_set - {"op", "id", "if_seq"}
        return {name: value for name in named if (value := getattr(self, name)) is not None or name in NULLABLE}

    @property
    def partial(self) -> bool:
        """Whether something of an older version stays."""
        return self.op == "update" and len(self.given) < len(type(self).model_fields) - len(("op", "id", "if_seq"))


def writes_of(changes: Sequence[Change], current: Mapping[str, MemoryRecord], *, channel: str) -> list[MemoryWrite]:
    """The writes of a batch upon the `current` versions, by id, of what its updates leave in part as it is.

    A write that takes something over from a version expects it to be current still (`if_seq`). Raises InvalidRequest and
    NotFound, which name fields as the store does: `writes.1.trust`.
    """
    live: dict[str, MemoryWrite] = {}
    writes: list[MemoryWrite] = []
    for number, change in enumerate(changes):
        _check(change, number)
        record = current.get(change.id)
        version = live.get(change.id, record)
        if change.partial and (version is None or (isinstance(version, MemoryWrite) and version.op == "delete")):
            raise NotFound(f"no memory {change.id!r}; search or list shows the ids", param=f"writes.{number}.id", code="memory_not_found")
        write = _write(change, version, channel)
        _check_validity(write, number)
        writes.append(write)
        if not (write.op == "add" and record is not None and change.id not in live and record.text == write.text):
            live[change.id] = write  # an add of what is there changes nothing: the record goes on
    return writes


def _write(change: Change, version: MemoryWrite | MemoryRecord | None, channel: str) -> MemoryWrite:
    if change.op == "delete":
        return MemoryWrite(op="delete", id=change.id, if_seq=change.if_seq)
    fields, if_seq = dict[str, Any](), change.if_seq
    if change.partial and version is not None:
        fields = _fields(version)
        if isinstance(version, MemoryRecord):
            if_seq = if_seq or version.seq_from
    fields |= change.given
    if "trust" not in change.given and (change.op == "add" or version is None or change.given.get("text", version.text) != version.text):
        fields["trust"] = "user"  # a new text is the word of who writes it
    session = fields.pop("session", None)
    return MemoryWrite(op=change.op, id=change.id, provenance=Provenance(channel=channel, session=session), if_seq=if_seq, **fields)


def _fields(version: MemoryWrite | MemoryRecord) -> dict[str, Any]:
    named = ("text", "kind", "metadata", "tags", "importance", "trust", "valid_at", "invalid_at")
    return {name: getattr(version, name) for name in named} | {"session": version.provenance.session}


def _check(change: Change, number: int) -> None:
    if change.op == "delete" and change.given:
        name = min(change.given)
        raise InvalidRequest(f"a delete takes id and if_seq alone; leave {name} out", param=f"writes.{number}.{name}")
    if change.trust == "operator":
        raise InvalidRequest(
            "trust 'operator' is for what is stored on the server's own machine; use user, assistant, tool, document or unknown",
            param=f"writes.{number}.trust",
        )


def _check_validity(write: MemoryWrite, number: int) -> None:
    """A time without a zone is the store's to refuse."""
    begin, end = write.valid_at, write.invalid_at
    if begin is not None and end is not None and begin.tzinfo and end.tzinfo and end <= begin:
        raise InvalidRequest("invalid_at is not after valid_at; give a later time, or leave it out", param=f"writes.{number}.invalid_at")
