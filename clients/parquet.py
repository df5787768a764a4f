"""Memories as Parquet, for tables and notebooks: one row a memory, one column a field.

| column | type | |
|---|---|---|
| id, namespace, kind, text, trust | string | |
| metadata | string | a JSON object |
| tags | list of strings | |
| importance | double | null: nobody said |
| valid_at, invalid_at, created_at | timestamp in microseconds, UTC | null: no such time |
| session, trajectory_id, channel | string | who wrote it, of `provenance` |
| step | int64 | of the trajectory |
| seq_from | int64 | the commit that wrote this version |
| content_hash | string | SHA-256 of the text, in hex |

The file's metadata has `recollect.memories`: the version of this schema, 1. pyarrow is imported with the first use, because that
takes a third of a second.
"""

# pyright: basic
# because Arrow carries no types.

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from recollect.errors import InvalidRequest
from recollect.memory import MemoryRecord

PARQUET = ".parquet"
VERSION = "1"
ROWS = 2_000
"""Of a group: what is held in memory at once."""


async def write(file: BinaryIO, records: AsyncIterable[MemoryRecord], advance: Callable[[int], None]) -> int:
    """Write all records, and return how many; `advance` is told of those that are written. An export of nothing has its columns."""
    import pyarrow.parquet as pq

    fields = schema()
    count = 0
    with pq.ParquetWriter(file, fields, compression="zstd") as writer:
        group: list[dict[str, Any]] = []
        async for record in records:
            group.append(_row(record))
            count += 1
            if len(group) == ROWS:
                _flush(writer, group, fields)
                advance(count)
        _flush(writer, group, fields)
    advance(count)
    return count


def schema() -> Any:
    """The columns."""
    import pyarrow as pa

    text, time, whole = pa.string(), pa.timestamp("us", tz="UTC"), pa.int64()
    types = {"metadata": text, "tags": pa.list_(text), "importance": pa.float64()}
    types |= dict.fromkeys(("valid_at", "invalid_at", "created_at"), time) | dict.fromkeys(("step", "seq_from"), whole)
    names = ("id", "namespace", "kind", "text", "trust", *types, "session", "trajectory_id", "channel", "content_hash")
    return pa.schema([pa.field(name, types.get(name, text)) for name in names], metadata={"recollect.memories": VERSION})


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file as objects, like those of JSON lines; other files' columns too. Raises InvalidRequest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                for number, row in enumerate(batch.to_pylist()):
                    yield _object(row, f"{path}: [{number}]")
    except OSError as exc:
        raise InvalidRequest(f"{path} cannot be read: {exc.strerror or exc}", param="file") from exc
    except pa.ArrowException as exc:
        raise InvalidRequest(f"{path} is no Parquet file that can be read: {exc}", param="file") from exc


def _flush(writer: Any, group: list[dict[str, Any]], fields: Any) -> None:
    import pyarrow as pa

    if group:
        writer.write_table(pa.Table.from_pylist(group, schema=fields))
        group.clear()


def _row(record: MemoryRecord) -> dict[str, Any]:
    own = record.model_dump(exclude={"metadata", "provenance", "seq_to"})
    return {**own, "metadata": json.dumps(record.metadata, ensure_ascii=False), **record.provenance.model_dump()}


def _object(row: dict[str, Any], place: str) -> dict[str, Any]:
    if isinstance(row.get("metadata"), str):
        try:
            row["metadata"] = json.loads(row["metadata"])
        except ValueError as exc:
            raise InvalidRequest(f"{place}: metadata is not JSON: {exc}", param="file") from exc
    if "provenance" not in row:
        row["provenance"] = {"session": row.get("session")}
    return row
