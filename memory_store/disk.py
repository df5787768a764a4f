"""One Lance table as a log of commits: read a consistent state, commit on top of it or fail. Blocking; run it in threads.

LanceDB's own merge repeats itself after a conflict with the rows it was first given, which would give two batches one
`seq`. So the commit goes to the Lance dataset directly, without repetition: whoever comes second reads again and plans again.
"""

# pyright: basic
# because Arrow and Lance carry no types.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import write_fragments

from memory_store.arrow import VECTOR, from_arrow, schema, to_arrow
from memory_store.faults import CommitConflict, guarded, transient, translated
from memory_store.location import Location, generation_of, lock_of, manifest_of, mark_created, namespace_of, writing
from memory_store.rows import MAX_BATCH, OPEN, Row, Space, last_seq
from memory_store.view import View
from recollect.errors import RecollectError
from recollect.memory import Kind, MemoryRecord

READ_ATTEMPTS = 5
PAGE = 5_000
CACHE_BYTES = 32 * 2**20
UPKEEP = (lance.LanceOperation.Rewrite, lance.LanceOperation.CreateIndex, lance.LanceOperation.BaseOperation)
"""Operations that change no row. The last is how Lance's Python shows the reservation of fragment numbers before a rewrite."""
UPKEEP_COMMITS = 8
_session = cast(Any, lance).Session(index_cache_size_bytes=CACHE_BYTES, metadata_cache_size_bytes=CACHE_BYTES)
"""One for all tables: by default every opened table may fill gigabytes with the manifests of old versions."""
_pc = cast(Any, pc)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The table at one version. `view` is None where the namespace is too large to hold in memory."""

    location: Location
    generation: bytes
    """Of the table that was read (location.py)."""
    dataset: Any
    version: int
    namespace: str
    seq: int
    view: View | None


def opened(location: Location) -> Any:
    """The Lance dataset at its newest version."""
    return lance.dataset(location.uri, session=_session, storage_options=location.storage_options)


def exists(location: Location) -> bool:
    """Whether the table was created. Raises RecollectError if it was, and is not there any more."""
    if location.path is not None:
        generation = generation_of(location)
        found = has_manifest(location.path)
        # Looked at again, because a table may be created or dropped between the two.
        if not found and generation and generation == generation_of(location):
            raise RecollectError(
                f"the folder {location.path} with memories was removed, moved away or emptied; put it back, or delete "
                f"{lock_of(location.path)} to begin anew without them",
                code="memories_lost",
            )
        return found
    try:
        opened(location)
    except (OSError, ValueError) as exc:
        if "not found" in str(exc).lower():
            return False
        raise translated(exc, "the memory store") from exc
    return True


def has_manifest(path: Path) -> bool:
    """Whether a table's folder holds a version."""
    try:
        return any(file.suffix == ".manifest" for file in (path / "_versions").iterdir())
    except FileNotFoundError:
        return False


def name_of(location: Location) -> str | None:
    """The namespace of a table that holds or held a memory."""
    if not exists(location):
        return None
    if (noted := namespace_of(location)) is not None:
        return noted
    dataset = opened(location)
    return dataset.schema.metadata[b"namespace"].decode() if dataset.count_rows() else None


def create(location: Location, namespace: str, space: Space, rows: Sequence[Row], view_rows: int | None) -> Snapshot:
    """Create a table with its first rows, in one commit. Raises CommitConflict if it is there, StorageFull."""
    if exists(location):
        raise CommitConflict("another process wrote the first commit")
    fields = schema(namespace, space.embedder, space.dimension)

    def write() -> Any:
        with writing(location):
            written = write_fragments(
                to_arrow(rows, fields), location.uri, schema=fields, mode="create", storage_options=location.storage_options
            )
            # Not `write_dataset(mode="create")`: of two at once the second quietly replaces the first one's table.
            dataset = lance.LanceDataset.commit(
                location.uri,
                lance.LanceOperation.Overwrite(fields, written),
                read_version=0,
                max_retries=0,
                storage_options=location.storage_options,
            )
            return dataset, mark_created(location, namespace)

    dataset, generation = guarded(write)
    view = View.of(rows) if view_rows is None or len(rows) <= view_rows else None
    return Snapshot(location, generation, dataset, dataset.version, namespace, last_seq(rows), view)


def read(location: Location, older: Snapshot | None, view_rows: int | None) -> Snapshot:
    """The newest state; with `older`, only what changed since is read, unless vectors were missing.

    A view is held up to `view_rows` rows (None: any number).
    A file that another process's clean-up removed while it was read is no error: the newer state is read then.
    """
    for attempt in range(READ_ATTEMPTS):
        generation = generation_of(location)
        try:
            return _read(location, generation, opened(location), older, view_rows)
        except (OSError, ValueError) as exc:
            if attempt == READ_ATTEMPTS - 1 or not transient(exc):
                raise translated(exc, "the memory store") from exc
    raise AssertionError("unreachable")


def _read(location: Location, generation: bytes, dataset: Any, older: Snapshot | None, view_rows: int | None) -> Snapshot:
    if older is not None and (older.view is not None or view_rows is not None) and _same_rows(dataset, generation, older):
        return replace(older, dataset=dataset, version=dataset.version)
    namespace = (dataset.schema.metadata or {}).get(b"namespace", b"").decode()
    seq = older.seq if older else 0
    if view_rows is not None and dataset.count_rows() > view_rows:
        keys = dataset.to_table(columns=["key"], filter=pc.field("key") >= (seq + 1) * MAX_BATCH)["key"]
        return Snapshot(
            location, generation, dataset, dataset.version, namespace, (_pc.max(keys).as_py() or seq * MAX_BATCH) // MAX_BATCH, None
        )
    if older is None or older.view is None or (VECTOR in dataset.schema.names and older.view.lacks_vectors):
        view = View.of(from_arrow(dataset.to_table(), namespace))
    else:
        closed = (pc.field("seq_to") > seq) & (pc.field("seq_to") < OPEN)
        rows = from_arrow(dataset.to_table(filter=(pc.field("seq_from") > seq) | closed), namespace)
        erased = any(row.erasure for row in rows)
        view = View.of(from_arrow(dataset.to_table(), namespace)) if erased else older.view.advanced(rows)
    return Snapshot(location, generation, dataset, dataset.version, namespace, view.seq, view)


def _same_rows(dataset: Any, generation: bytes, older: Snapshot) -> bool:
    """Whether only upkeep committed since: looking at its few transactions is much cheaper than looking for new rows."""
    versions = range(older.version + 1, dataset.version + 1)
    if generation != older.generation or not 0 < len(versions) <= UPKEEP_COMMITS:
        return False
    try:
        return all(type(dataset.read_transaction(version).operation) in UPKEEP for version in versions)
    except (OSError, ValueError, TypeError):
        return False  # a clean-up removed one, or it is a rewrite of indexes, which Lance 14 cannot show: then the rows tell


def _where(snapshot: Snapshot, condition: pc.Expression | str, limit: int | None = None) -> list[Row]:
    rows = from_arrow(snapshot.dataset.to_table(filter=condition, limit=limit), snapshot.namespace)
    return sorted(rows, key=lambda row: row.key)


def get(snapshot: Snapshot, memory_id: str, as_of: int) -> MemoryRecord | None:
    """The version of an id at `as_of`."""
    found = _where(snapshot, _at(as_of) & (pc.field("id") == memory_id))
    return found[0].record if found else None


def history(snapshot: Snapshot, memory_id: str) -> list[MemoryRecord]:
    """Every version that was ever current, oldest first."""
    return [row.record for row in _where(snapshot, pc.field("id") == memory_id) if not row.tombstone]


def newest(snapshot: Snapshot, limit: int, offset: int, kind: Kind | None, as_of: int) -> list[MemoryRecord]:
    """Records at `as_of`, newest first: the keys of all are read, but only the rows of the page."""
    condition = _at(as_of) if kind is None else _at(as_of) & (pc.field("kind") == kind)
    keys = sorted(snapshot.dataset.to_table(columns=["key"], filter=condition)["key"].to_pylist(), reverse=True)
    page = keys[offset : offset + limit]
    return [row.record for row in reversed(_where(snapshot, pc.field("key").isin(page)))] if page else []


def pages(snapshot: Snapshot) -> Iterable[list[MemoryRecord]]:
    """All current records, oldest first, a page at a time: the keys of all are read, but only the rows of the page."""
    keys = sorted(snapshot.dataset.to_table(columns=["key"], filter=_at(snapshot.seq))["key"].to_pylist())
    for start in range(0, len(keys), PAGE):
        yield [row.record for row in _where(snapshot, pc.field("key").isin(keys[start : start + PAGE]))]


def session(snapshot: Snapshot, record: MemoryRecord, as_of: int) -> list[Row]:
    """The episodic memories of a record's session, in their order."""
    # Rows of the first schema have it in their provenance alone.
    session = record.provenance.session
    named = (pc.field("session") == session) | pc.field("session").is_null()
    rows = _where(snapshot, _at(as_of) & named & (pc.field("kind") == "episodic"))
    return sorted((row for row in rows if row.record.provenance.session == session), key=lambda row: row.order)


def _at(seq: int) -> pc.Expression:
    return (pc.field("seq_from") <= seq) & (pc.field("seq_to") > seq)


def current(snapshot: Snapshot, ids: Iterable[str]) -> dict[str, Row]:
    """The current rows of some ids."""
    if snapshot.view is not None:
        found = {memory_id: snapshot.view.row(memory_id) for memory_id in ids}
        return {memory_id: row for memory_id, row in found.items() if row is not None}
    wanted = pa.array(list(ids), pa.string())
    condition = pc.field("id").isin(wanted) & (pc.field("seq_to") == OPEN)
    return {row.record.id: row for row in _where(snapshot, condition)}


def commit(snapshot: Snapshot, rows: Sequence[Row], seq: int) -> Snapshot:
    """Write rows by key, new ones and closed ones, in one Lance commit on top of `snapshot`. Raises CommitConflict, StorageFull.

    A compaction, or vectors that were filled in, may have come between: then the state is read again.
    """
    dataset = _merge(snapshot, rows)
    if dataset.version != snapshot.version + 1:
        return again(snapshot)
    view = None if snapshot.view is None else snapshot.view.advanced(rows)
    return replace(snapshot, dataset=dataset, version=dataset.version, seq=seq, view=view)


def fill(snapshot: Snapshot, rows: Sequence[Row]) -> None:
    """Replace rows by themselves with a vector; no commit of the namespace. Raises CommitConflict, StorageFull."""
    _merge(snapshot, rows)


def _merge(snapshot: Snapshot, rows: Sequence[Row]) -> Any:
    def merge() -> Any:
        with writing(snapshot.location):
            _still_there(snapshot)
            dataset = snapshot.dataset.checkout_version(snapshot.version)
            builder = dataset.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
            builder.use_index(False).conflict_retries(0).execute(to_arrow(rows, dataset.schema))
        return dataset

    return guarded(merge)


def _still_there(snapshot: Snapshot) -> None:
    """Raises CommitConflict if the table was dropped, or its version cleaned up: Lance's caches may not know, and would commit on it.

    Asked while the lock is held, without which nobody drops or cleans.
    """
    location = snapshot.location
    if location.path is None:
        return
    if generation_of(location) != snapshot.generation or not manifest_of(location.path, snapshot.version).is_file():
        raise CommitConflict("the table was dropped, or its version cleaned up")


def is_newest(snapshot: Snapshot) -> bool:
    """Whether nobody committed since, or dropped the table."""
    return generation_of(snapshot.location) == snapshot.generation and snapshot.dataset.latest_version == snapshot.version


def again(snapshot: Snapshot) -> Snapshot:
    """The newest state, held in memory if `snapshot` was."""
    return read(snapshot.location, snapshot, None if snapshot.view is not None else 0)


def without_vector(snapshot: Snapshot, limit: int) -> list[Row]:
    """Some rows that have no vector yet. Lance takes no expression over a vector, hence the text, which is constant."""
    return _where(snapshot, f"seq_to > seq_from AND {VECTOR} IS NULL", limit)
