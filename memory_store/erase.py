"""Erasing: rows, their old versions, index pages and replaced files leave the disk; what is left is read and checked.

Deleting in Lance only marks rows, and text stays in compressed pages and index files. So what is chosen is deleted by its
keys (a condition on text or ids would itself be written down), every file that held some of it is written anew, all
indexes are dropped (the next search builds what it needs), and all older versions go at once. Blocking; run it in threads.
"""

# pyright: basic
# because Arrow and Lance carry no types.

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
from lance.file import LanceFileReader

from memory_store import disk
from memory_store.arrow import VECTOR, from_arrow, to_arrow
from memory_store.faults import CommitConflict, guarded
from memory_store.location import Location, lock_of, writing
from memory_store.rows import ERASURE, Row, last_seq
from recollect.errors import RecollectError
from recollect.memory import MemoryRecord, content_hash

ATTEMPTS = 10
TEXTS = ("text", "terms", "content_hash", "metadata", "provenance", "session")
MIN_NEEDLE = 12
"""Characters."""


def find(path: Path, chosen: Callable[[MemoryRecord], bool]) -> list[MemoryRecord]:
    """Every version of every memory of which `chosen` holds for one version: what `erase` would erase."""
    if not disk.exists(Location.of(path)):
        return []
    return [row.record for row in _doomed(lance.dataset(path), chosen)]


def erase(path: Path, chosen: Callable[[MemoryRecord], bool]) -> list[MemoryRecord]:
    """Erase every memory of which `chosen` holds for one version, with all its versions. Returns all versions that were erased.

    `seq` goes on: an empty row, written in the same commit, marks the erasure, by which other processes know that what
    they hold is stale. Raises RecollectError if a file still holds some of it afterwards.
    """
    if not disk.exists(Location.of(path)):
        return []
    erased: dict[int, Row] = {}
    with writing(Location.of(path), alone=True):
        for attempt in range(ATTEMPTS):
            try:
                _delete(lance.dataset(path), chosen, erased)
                break
            except CommitConflict:
                if attempt == ATTEMPTS - 1:
                    raise
        rest = remains(path, list(erased.values())) if erased else []
    if rest:
        raise RecollectError(f"{len(rest)} files of {path.name} still hold what was to be forgotten: {rest[:3]}", code="not_erased")
    return [row.record for row in erased.values()]


def drop(path: Path) -> None:
    """Remove a whole table. It is gone under its name at once, and from the disk when this returns."""
    if path.exists():
        with writing(Location.of(path), alone=True):
            lock_of(path).write_bytes(b"")  # what is dropped is not lost
            doomed = path.with_name(f".{uuid.uuid4().hex}.dropped")
            path.rename(doomed)
            shutil.rmtree(doomed)
            lock_of(path).unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a tenant's folder: tables that were never committed, and those that were being dropped."""
    for rest in folder.glob(".*.dropped"):
        shutil.rmtree(rest)
    for path in folder.glob("*.lance"):
        if not disk.has_manifest(path):
            with writing(Location.of(path), alone=True):
                if not disk.has_manifest(path) and not lock_of(path).read_bytes():
                    shutil.rmtree(path, ignore_errors=True)
                    lock_of(path).unlink(missing_ok=True)


def _doomed(dataset: Any, chosen: Callable[[MemoryRecord], bool]) -> list[Row]:
    rows = _rows(dataset)
    ids = {row.record.id for row in rows if not row.tombstone and chosen(row.record)}
    return [row for row in rows if row.record.id in ids]


def _rows(dataset: Any) -> list[Row]:
    columns = [name for name in dataset.schema.names if name != VECTOR]
    return from_arrow(dataset.to_table(columns=columns), dataset.schema.metadata[b"namespace"].decode())


def _delete(dataset: Any, chosen: Callable[[MemoryRecord], bool], erased: dict[int, Row]) -> None:
    """Delete what is chosen and add it to `erased`; then leave one version of the table, without indexes."""
    doomed = {row.key: row for row in _doomed(dataset, chosen)}
    if doomed:
        namespace = dataset.schema.metadata[b"namespace"].decode()
        mark = to_arrow([_mark(namespace, last_seq(_rows(dataset)) + 1)], dataset.schema)
        keys = ", ".join(str(key) for key in doomed)
        builder = dataset.merge_insert("key").when_not_matched_insert_all().when_not_matched_by_source_delete(f"key IN ({keys})")
        guarded(lambda: builder.use_index(False).conflict_retries(0).execute(mark))
        erased |= doomed
    if not erased:  # what killed writers left behind goes all the same
        guarded(lambda: dataset.cleanup_old_versions(timedelta(days=36_500), delete_unverified=True, error_if_tagged_old_versions=False))
        return
    for index in dataset.describe_indices():
        guarded(lambda name=index.name: dataset.drop_index(name))
    guarded(lambda: dataset.optimize.compact_files(materialize_deletions=True, materialize_deletions_threshold=0.0, num_threads=1))
    guarded(lambda: dataset.cleanup_old_versions(timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False))


def _mark(namespace: str, seq: int) -> Row:
    record = MemoryRecord(
        id=f"{ERASURE}{uuid.uuid4().hex}",
        namespace=namespace,
        kind="semantic",
        text="",
        seq_from=seq,
        seq_to=seq,
        created_at=datetime.now(UTC),
        content_hash=content_hash(""),
    )
    return Row(record, 0, ())


def remains(path: Path, erased: Sequence[Row]) -> list[str]:
    """The files of a table that hold erased rows: as decoded pages, as raw bytes, as rows only marked as deleted, as an index.

    What a memory that stays says too is no remainder.
    """
    pages = {file: LanceFileReader(str(file)).read_all().to_table() for file in sorted((path / "data").glob("*.lance"))}
    keys, ids = {row.key for row in erased}, {row.record.id for row in erased}
    found = [file for file, page in pages.items() if keys & _values(page, "key") or ids & _values(page, "id")]
    needles = _needles(erased, "\n".join(text for page in pages.values() for name in TEXTS for text in _values(page, name) if text))
    for file in path.rglob("*"):
        if not file.is_file():
            continue
        content = file.read_bytes()
        if file.relative_to(path).parts[0] in ("_deletions", "_indices") or any(needle in content for needle in needles):
            found.append(file)
    return sorted({str(file.relative_to(path)) for file in found})


def _values(page: pa.Table, column: str) -> set[Any]:
    return set(page[column].to_pylist()) if column in page.column_names else set()


def _needles(erased: Sequence[Row], rest: str) -> list[bytes]:
    """Bytes that only the erased rows had: their hashes, and texts that are long enough to be told from chance."""
    said = {row.record.content_hash for row in erased if row.record.text} | {row.record.text for row in erased}
    return [text.encode() for text in said if len(text) >= MIN_NEEDLE and text not in rest]
