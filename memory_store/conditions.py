"""Filters as conditions of LanceDB. What a caller wrote gets into them as a literal only, written by LanceDB itself."""

# pyright: basic
# because LanceDB's expressions carry no types.

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from lancedb.expr import col, lit

from recollect.memory import Filters


def where(filters: Filters, seq: int) -> str:
    """The rows alive at `seq` that the filters let pass."""
    alive = (col("seq_from") <= lit(seq)) & (col("seq_to") > lit(seq))
    return " AND ".join(f"({condition})" for condition in (alive.to_sql(), *_conditions(filters)))


def _conditions(filters: Filters) -> Iterator[str]:
    if filters.kind is not None:
        yield (col("kind") == lit(filters.kind)).to_sql()
    if filters.trust:
        yield col("trust").isin(list(filters.trust)).to_sql()
    for tag in filters.tags:
        yield f"array_has(tags, {_literal(tag)})"
    for tag in filters.without_tags:
        yield f"tags IS NULL OR NOT array_has(tags, {_literal(tag)})"
    if filters.since is not None:
        yield f"coalesce(valid_at, created_at) >= {_time(filters.since)}"
    if filters.until is not None:
        yield f"coalesce(valid_at, created_at) < {_time(filters.until)}"
    if filters.valid_at is not None:
        yield f"valid_at IS NULL OR valid_at <= {_time(filters.valid_at)}"
        yield f"invalid_at IS NULL OR invalid_at > {_time(filters.valid_at)}"


def _literal(value: str) -> Any:
    return lit(value).to_sql()


def _time(moment: datetime) -> str:
    # Not by strftime: its %Y has no leading zeros.
    return f"timestamp '{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z'"
