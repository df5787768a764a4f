"""One Lance table as a log of commits: read a consistent state, commit on top of it or fail. Blocking; run it in threads.

LanceDB's own merge repeats itself after a conflict with the rows it was first given, which would give two batches one
`seq`. So the commit goes to the Lance dataset directly, without repetition: whoever comes second reads again and plans again.
"""

# pyright: basic
# because Arrow and Lance carry no types.

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import lance
import pyarrow as pa
import pyarrow.compute as pc

from memory_store.arrow import VECTOR, from_arrow, schema, to_arrow
from memory_store.rows import MAX_BATCH, OPEN, Row, Space
from memory_store.view import View
from recollect.errors import ConfigurationError, RecollectError, StorageFull
from recollect.memory import Kind, MemoryRecord, NamespaceStats

READ_ATTEMPTS = 5
CACHE_BYTES = 32 * 2**20
_session = cast(Any, lance).Session(index_cache_size_bytes=CACHE_BYTES, metadata_cache_size_bytes=CACHE_BYTES)
"""One for all tables: by default every opened table may fill gigabytes with the manifests of old versions."""
T = TypeVar("T")
_pc = cast(Any, pc)


class CommitConflict(Exception):
    """Another process committed first; read again."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The table at one version. `view` is None where the namespace is too large to hold in memory."""

    dataset: Any
    version: int
    namespace: str
    seq: int
    view: View | None


def _open(path: Path | str) -> Any:
    return lance.dataset(path, session=_session)


def exists(path: Path) -> bool:
    """Whether the table was created."""
    return (path / "_versions").is_dir()


def lock_of(path: Path) -> Path:
    """The file that writers of a table lock, beside its folder."""
    return path.with_suffix(".lock")


@contextmanager
def writing(path: Path, *, alone: bool = False) -> Generator[None]:
    """Held while files of a table are written: by any number of writers of all processes, or by one `alone`.

    An erasure removes every file that no version names, which a file is that another writer is about to commit.
    """
    with lock_of(path).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def create(path: Path, namespace: str, space: Space) -> None:
    """Create an empty table, unless it is there."""
    if not exists(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lance.write_dataset(schema(namespace, space.embedder, space.dimension).empty_table(), path, mode="create")
        except OSError as exc:
            if not exists(path):
                raise translated(exc, "the memory store") from exc


def read(path: Path, older: Snapshot | None, view_rows: int | None) -> Snapshot:
    """The newest state; with `older`, only what changed since is read, unless vectors were missing.

    A view is held up to `view_rows` rows (None: any number).
    A file that another process's clean-up removed while it was read is no error: the newer state is read then.
    """
    for attempt in range(READ_ATTEMPTS):
        dataset = _open(path)
        try:
            return _read(dataset, older, view_rows)
        except OSError as exc:
            if attempt == READ_ATTEMPTS - 1 or "not found" not in str(exc).lower():
                raise translated(exc, "the memory store") from exc
    raise AssertionError("unreachable")


def _read(dataset: Any, older: Snapshot | None, view_rows: int | None) -> Snapshot:
    namespace = (dataset.schema.metadata or {}).get(b"namespace", b"").decode()
    seq = older.seq if older else 0
    if view_rows is not None and dataset.count_rows() > view_rows:
        keys = dataset.to_table(columns=["key"], filter=pc.field("key") >= (seq + 1) * MAX_BATCH)["key"]
        return Snapshot(dataset, dataset.version, namespace, (_pc.max(keys).as_py() or seq * MAX_BATCH) // MAX_BATCH, None)
    if older is None or older.view is None or (VECTOR in dataset.schema.names and older.view.lacks_vectors):
        view = View.of(from_arrow(dataset.to_table(), namespace))
    else:
        closed = (pc.field("seq_to") > seq) & (pc.field("seq_to") < OPEN)
        rows = from_arrow(dataset.to_table(filter=(pc.field("seq_from") > seq) | closed), namespace)
        erased = any(row.erasure for row in rows)
        view = View.of(from_arrow(dataset.to_table(), namespace)) if erased else older.view.advanced(rows)
    return Snapshot(dataset, dataset.version, namespace, view.seq, view)


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
        return read(Path(dataset.uri), snapshot, None if snapshot.view is not None else 0)
    view = None if snapshot.view is None else snapshot.view.advanced(rows)
    return replace(snapshot, dataset=dataset, version=dataset.version, seq=seq, view=view)


def fill(snapshot: Snapshot, rows: Sequence[Row]) -> None:
    """Replace rows by themselves with a vector; no commit of the namespace. Raises CommitConflict, StorageFull."""
    _merge(snapshot, rows)


def _merge(snapshot: Snapshot, rows: Sequence[Row]) -> Any:
    def merge() -> Any:
        dataset = snapshot.dataset.checkout_version(snapshot.version)
        builder = dataset.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
        with writing(Path(dataset.uri)):
            builder.use_index(False).conflict_retries(0).execute(to_arrow(rows, dataset.schema))
        return dataset

    return guarded(merge)


def compact(snapshot: Snapshot, rows_per_fragment: int, keep: timedelta) -> Snapshot:
    """Join fragments smaller than `rows_per_fragment`, drop versions older than `keep`. Raises CommitConflict, StorageFull."""
    dataset = _open(snapshot.dataset.uri)
    with writing(Path(dataset.uri)):
        guarded(lambda: dataset.optimize.compact_files(target_rows_per_fragment=rows_per_fragment, num_threads=1))
    guarded(lambda: dataset.cleanup_old_versions(keep, error_if_tagged_old_versions=False))
    return read(Path(dataset.uri), snapshot, None if snapshot.view is not None else 0)


def written(folder: Path) -> list[str]:
    """The namespaces of a tenant's folder that hold or held a memory."""
    tables = [_open(path) for path in folder.glob("*.lance") if exists(path)]
    return [table.schema.metadata[b"namespace"].decode() for table in tables if table.count_rows()]


def fragments(snapshot: Snapshot) -> int:
    """How many fragments the table has."""
    return len(snapshot.dataset.get_fragments())


def stats(snapshot: Snapshot) -> NamespaceStats:
    """The size of a table."""
    dataset = snapshot.dataset
    columns = dataset.to_table(columns=["kind", "seq_from", "seq_to"])
    written = columns.filter(pc.field("seq_to") > pc.field("seq_from"))  # without tombstones
    current = written.filter(pc.field("seq_to") == OPEN)
    waiting = f"seq_to = {OPEN} AND {VECTOR} IS NULL" if VECTOR in dataset.schema.names else "false"
    return NamespaceStats(
        seq=snapshot.seq,
        memories=current.num_rows,
        versions=written.num_rows,
        by_kind={row["values"]: row["counts"] for row in _pc.value_counts(current["kind"]).to_pylist()},
        without_vector=dataset.count_rows(filter=waiting),
        fragments=fragments(snapshot),
        table_versions=len(dataset.versions()),
        bytes=sum(_size(file) for file in Path(dataset.uri).rglob("*")),
    )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:  # a clean-up removed it meanwhile
        return 0


def check_space(snapshot: Snapshot, space: Space) -> Snapshot:
    """Refuse an embedder that did not make the table's vectors; give a table without vectors room for them.

    Raises ConfigurationError that names both embedders.
    """
    fields: pa.Schema = snapshot.dataset.schema
    made_by = (fields.metadata or {}).get(b"embedder", b"").decode()
    if not space.dimension or (made_by, _dimension(fields)) == (space.embedder, space.dimension):
        return snapshot
    if VECTOR in fields.names:
        raise ConfigurationError(
            f"the vectors of {snapshot.namespace} were made by {made_by} ({_dimension(fields)} numbers), the embedder now is "
            f"{space.embedder} ({space.dimension}); set embedder.kind and embedder.model back, or store the memories in a new home",
            param="embedder",
        )
    dataset = _open(snapshot.dataset.uri)
    guarded(lambda: dataset.add_columns(pa.field(VECTOR, pa.list_(pa.float32(), space.dimension))))
    guarded(lambda: dataset.update_schema_metadata({"embedder": space.embedder}))
    return read(Path(dataset.uri), snapshot, None if snapshot.view is not None else 0)


def _dimension(fields: pa.Schema) -> int:
    return fields.field(VECTOR).type.list_size if VECTOR in fields.names else 0


def without_vector(snapshot: Snapshot, limit: int) -> list[Row]:
    """Some current rows that have no vector yet. Lance takes no expression over a vector, hence the text, which is constant."""
    return _where(snapshot, f"seq_to = {OPEN} AND {VECTOR} IS NULL", limit)


def guarded(write: Callable[[], T]) -> T:
    """Run a write. A version that another process's clean-up removed under it is a conflict too."""
    try:
        return write()
    except (OSError, ValueError) as exc:
        text = str(exc).lower()
        if any(word in text for word in ("concurrent", "conflict", "not found")):
            raise CommitConflict(str(exc)) from exc
        if isinstance(exc, ValueError):
            raise
        raise translated(exc, "the memory store") from exc


def translated(exc: OSError, what: str) -> RecollectError:
    """Our error for the operating system's, which Lance passes on as text."""
    full = exc.errno in (errno.ENOSPC, errno.EDQUOT) or any(t in str(exc) for t in ("No space left", "StorageFull", "os error 28", "quota"))
    if full:
        return StorageFull(f"no space is left on the disk of {what}; nothing was stored. Free some and try again")
    return RecollectError(f"{what} cannot be read or written: {exc}", code="storage_error")
