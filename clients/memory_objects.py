"""Memories as the API shows and takes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from recollect.memory import Context, Filters, MemoryRecord, MemoryWrite, Ranking, SearchHit


def record_of(item: Mapping[str, Any]) -> MemoryRecord:
    """The record of a memory object."""
    return MemoryRecord.model_validate({name: value for name, value in item.items() if name != "object"})


def hit_of(item: Mapping[str, Any]) -> SearchHit:
    """The hit of a memory object with a score."""
    memory = {name: value for name, value in item.items() if name not in ("score", "parts", "context")}
    around = item.get("context")
    context = around and Context(before=tuple(map(record_of, around["before"])), after=tuple(map(record_of, around["after"])))
    return SearchHit(record=record_of(memory), score=item["score"], parts=item["parts"], context=context)


def operation_of(write: MemoryWrite) -> dict[str, Any]:
    """A write as an item of a batch, with all its fields: what an item leaves out, an update would leave as it is."""
    told: dict[str, Any] = {"op": write.op, "id": write.id}
    if write.if_seq is not None:
        told["if_seq"] = write.if_seq
    if write.op == "delete":
        return told
    return told | {
        "text": write.text,
        "kind": write.kind,
        "metadata": write.metadata,
        "tags": write.tags,
        "importance": write.importance,
        "trust": write.trust,
        "valid_at": time_of(write.valid_at),
        "invalid_at": time_of(write.invalid_at),
        "session": write.provenance.session,
    }


def filters_of(filters: Filters) -> dict[str, Any]:
    """Filters as a search's body takes them: those that are set."""
    named = filters.model_dump(exclude_defaults=True)
    return {name: time_of(value) if isinstance(value, datetime) else value for name, value in named.items()}


def ranking_of(ranking: Ranking) -> dict[str, Any]:
    """A ranking as a search's body takes it: what differs from the default."""
    return ranking.model_dump(exclude_defaults=True)


def time_of(moment: datetime | None) -> str | None:
    """A time as ISO 8601."""
    return moment.isoformat() if moment is not None else None
