"""Rows as Arrow: the schema of a table, and the way there and back."""

# pyright: basic
# because Arrow and Lance carry no types.

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memory_store.rows import MAX_BATCH, OPEN, Row
from recollect.memory import MemoryRecord, Provenance

VECTOR = "vector"
_TIME = pa.timestamp("us", tz="UTC")
_KEY_METADATA = {"lance-schema:unenforced-primary-key": "true", "lance-schema:unenforced-primary-key:position": "1"}
SCHEMA = 2
"""The version of this schema; the table's metadata names it. Version 1 had no such name, and not the columns in `ADDED`."""
ADDED = (
    pa.field("tags", pa.list_(pa.string())),
    pa.field("importance", pa.float64()),
    pa.field("session", pa.string()),
    pa.field("born", pa.int64()),
)


def schema(namespace: str, embedder: str | None, dimension: int) -> pa.Schema:
    """The table's schema. `dimension` 0: no vectors. The metadata names the namespace, the embedder and the schema's version."""
    fields = [
        pa.field("key", pa.int64(), nullable=False, metadata=_KEY_METADATA),
        pa.field("id", pa.string()),
        pa.field("seq_from", pa.int64()),
        pa.field("seq_to", pa.int64()),
        pa.field("kind", pa.string()),
        pa.field("text", pa.string()),
        pa.field("terms", pa.string()),
        pa.field("metadata", pa.string()),
        pa.field("valid_at", _TIME),
        pa.field("invalid_at", _TIME),
        pa.field("created_at", _TIME),
        pa.field("provenance", pa.string()),
        pa.field("trust", pa.string()),
        pa.field("content_hash", pa.string()),
        *ADDED,
    ]
    if dimension:
        fields.append(pa.field(VECTOR, pa.list_(pa.float32(), dimension)))
    metadata = {"namespace": namespace, "schema": str(SCHEMA)} | ({"embedder": embedder} if embedder else {})
    return pa.schema(fields, metadata=metadata)


def to_arrow(rows: Iterable[Row], table_schema: pa.Schema) -> pa.Table:
    """Rows as a table of the schema."""
    return pa.Table.from_pylist([_to_dict(row) for row in rows], schema=table_schema)


def _to_dict(row: Row) -> dict[str, Any]:
    record = row.record
    return {
        "key": row.key,
        "id": record.id,
        "seq_from": record.seq_from,
        "seq_to": OPEN if record.seq_to is None else record.seq_to,
        "kind": record.kind,
        "text": record.text,
        "terms": " ".join(row.terms),
        "metadata": json.dumps(record.metadata, ensure_ascii=False),
        "valid_at": record.valid_at,
        "invalid_at": record.invalid_at,
        "created_at": record.created_at,
        "provenance": record.provenance.model_dump_json(),
        "trust": record.trust,
        "content_hash": record.content_hash,
        "tags": record.tags,
        "importance": record.importance,
        "session": record.provenance.session,
        "born": row.born,
        VECTOR: row.vector,
    }


def from_arrow(table: pa.Table, namespace: str) -> list[Row]:
    """Rows in the order of the table."""
    vectors = matrix(table)
    return [
        Row(
            _record(fields, namespace),
            int(fields["key"]) % MAX_BATCH,
            tuple(fields["terms"].split()),
            None if vectors is None or np.isnan(vectors[i, 0]) else vectors[i],
            fields.get("born"),
        )
        for i, fields in enumerate(table.drop_columns([VECTOR] if VECTOR in table.column_names else []).to_pylist())
    ]


def matrix(table: pa.Table) -> NDArray[np.float32] | None:
    """The vectors, (rows, dimension); a row without one is NaN. None if the table has no vectors."""
    if VECTOR not in table.column_names:
        return None
    column = table.column(VECTOR).combine_chunks()
    dimension = column.type.list_size
    found = np.full((len(column), dimension), np.nan, np.float32)
    present = np.asarray(column.is_valid())
    found[present] = np.asarray(column.drop_null().flatten()).reshape(-1, dimension)
    return found


def _record(fields: dict[str, Any], namespace: str) -> MemoryRecord:
    return MemoryRecord.model_construct(
        id=fields["id"],
        namespace=namespace,
        kind=fields["kind"],
        text=fields["text"],
        metadata=json.loads(fields["metadata"]),
        seq_from=fields["seq_from"],
        seq_to=None if fields["seq_to"] == OPEN else fields["seq_to"],
        provenance=Provenance.model_construct(**json.loads(fields["provenance"])),
        trust=fields["trust"],
        tags=tuple(fields.get("tags") or ()),
        importance=fields.get("importance"),
        content_hash=fields["content_hash"],
        valid_at=fields["valid_at"],
        invalid_at=fields["invalid_at"],
        created_at=fields["created_at"],
    )
