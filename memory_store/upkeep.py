"""Upkeep of a table: few fragments, indexes that know all rows, no more old versions than readers need; and its size.

All of it is bounded: one pass compacts at most so many bytes and takes about so long, the next one goes on. Blocking; run
it in threads.
"""

# pyright: basic
# because Arrow and Lance carry no types.

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow.compute as pc

from memory_store.arrow import VECTOR
from memory_store.disk import Snapshot, again, opened
from memory_store.faults import CommitConflict, guarded
from memory_store.location import writing
from memory_store.rows import OPEN
from recollect.memory import NamespaceStats

PASS_BYTES = 64 * 2**20
"""Of the data that one compaction reads: what a pass needs of memory is about twice that."""
PASS_S = 5.0
UNINDEXED_ROWS = 1_000
"""Rows that full text search may have to scan beside its index."""
_pc = cast(Any, pc)


def compact(snapshot: Snapshot, rows_per_fragment: int) -> Snapshot:
    """Join fragments smaller than `rows_per_fragment`, and index what the indexes do not know. Raises CommitConflict, StorageFull."""
    dataset = opened(snapshot.location)
    until = time.monotonic() + PASS_S
    while _compact_some(snapshot, dataset, rows_per_fragment) and time.monotonic() < until:
        dataset = opened(snapshot.location)
    _index(snapshot, dataset)
    return again(snapshot)


def _compact_some(snapshot: Snapshot, dataset: Any, rows_per_fragment: int) -> bool:
    """Whether there was something to join."""
    with writing(snapshot.location):
        done = guarded(
            lambda: dataset.optimize.compact_files(
                target_rows_per_fragment=rows_per_fragment, max_source_bytes=PASS_BYTES, batch_size=1024, num_threads=1
            )
        )
    return done.fragments_removed > 0


def _index(snapshot: Snapshot, dataset: Any) -> None:
    """In a namespace that is not held in memory a commit looks ids up by an index; in others it needs none."""
    indices = dataset.describe_indices()
    if snapshot.view is None and not any(index.field_names == ["id"] for index in indices):
        with writing(snapshot.location):
            guarded(lambda: dataset.create_scalar_index("id", "BTREE"))
        return
    for index in indices:
        if unindexed(dataset, index.name) > UNINDEXED_ROWS:
            with writing(snapshot.location):
                guarded(lambda: dataset.optimize.optimize_indices())
            return


def unindexed(dataset: Any, name: str) -> int:
    """How many rows an index does not know."""
    return dataset.stats.index_stats(name)["num_unindexed_rows"]


def clean(snapshot: Snapshot, keep: timedelta) -> None:
    """Remove the files of versions that are older than `keep`, while nobody commits on one of them. Raises CommitConflict."""
    try:
        with writing(snapshot.location, alone=True, wait=False):
            dataset = opened(snapshot.location)
            guarded(lambda: dataset.cleanup_old_versions(keep, error_if_tagged_old_versions=False))
    except BlockingIOError as exc:
        raise CommitConflict("another process writes") from exc


def fragments(snapshot: Snapshot) -> int:
    """How many fragments the table has."""
    return len(snapshot.dataset.get_fragments())


def versions(snapshot: Snapshot) -> int:
    """How many versions of the table are kept."""
    return len(snapshot.dataset.versions())


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
        not_indexed=max((unindexed(dataset, index.name) for index in dataset.describe_indices()), default=0),
        fragments=fragments(snapshot),
        table_versions=versions(snapshot),
        bytes=_bytes(snapshot),
    )


def _bytes(snapshot: Snapshot) -> int:
    """On the disk; in an object storage the data files of the newest version."""
    if (path := snapshot.location.path) is not None:
        return sum(_size(file) for file in path.rglob("*"))
    return sum(file.file_size_bytes or 0 for fragment in snapshot.dataset.get_fragments() for file in fragment.data_files())


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:  # a clean-up removed it meanwhile
        return 0
