"""What a table must be before it is used: of a schema that is known, with vectors of the embedder in use. Blocking."""

# pyright: basic
# because Arrow and Lance carry no types.

from __future__ import annotations

import pyarrow as pa

from memory_store.arrow import ADDED, SCHEMA, VECTOR
from memory_store.disk import Snapshot, again, opened, read
from memory_store.faults import CommitConflict, guarded
from memory_store.location import Location
from memory_store.rows import Space
from recollect.errors import ConfigurationError

ATTEMPTS = 5


def checked(snapshot: Snapshot, space: Space) -> Snapshot:
    """The snapshot, brought to the schema of today and with room for the embedder's vectors.

    Raises ConfigurationError for a table of a newer schema or of another embedder, and CommitConflict.
    """
    return _with_vectors(_of_today(snapshot), space)


def made_by(snapshot: Snapshot) -> Space:
    """The embedder that made the table's vectors."""
    fields: pa.Schema = snapshot.dataset.schema
    dimension = fields.field(VECTOR).type.list_size if VECTOR in fields.names else 0
    return Space((fields.metadata or {}).get(b"embedder", b"").decode() if dimension else "", dimension)


def without_others(location: Location, space: Space) -> bool:
    """Take away vectors that another embedder made, and leave room for those of `space`. False if they are of `space` already.

    A process that ends in between leaves a table without vectors, which the next one that opens it gives room. Raises CommitConflict.
    """
    emptied = False
    for attempt in range(ATTEMPTS):
        try:
            snapshot = _of_today(read(location, None, 0))
            if made_by(snapshot) == space:
                break
            if VECTOR in snapshot.dataset.schema.names:
                dataset = opened(location)
                guarded(lambda dataset=dataset: dataset.drop_columns([VECTOR]))
                emptied = True
            _with_vectors(again(snapshot), space)
        except CommitConflict:  # a reader gives the table room for vectors, too
            if attempt == ATTEMPTS - 1:
                raise
    return emptied


def _of_today(snapshot: Snapshot) -> Snapshot:
    fields: pa.Schema = snapshot.dataset.schema
    version = int((fields.metadata or {}).get(b"schema", b"1"))
    if version == SCHEMA:
        return snapshot
    if version > SCHEMA:
        raise ConfigurationError(
            f"the memories of {snapshot.namespace} were stored by a newer Recollect (schema {version}, this one knows {SCHEMA}); "
            "install that version, or use another home",
            param="home",
        )
    dataset = opened(snapshot.location)
    missing = [field for field in ADDED if field.name not in dataset.schema.names]
    if missing:
        guarded(lambda: dataset.add_columns(missing))
    guarded(lambda: dataset.update_schema_metadata({"schema": str(SCHEMA)}))
    return again(snapshot)


def _with_vectors(snapshot: Snapshot, space: Space) -> Snapshot:
    made = made_by(snapshot)
    if not space.dimension or made == space:
        return snapshot
    if made.dimension:
        raise ConfigurationError(
            f"the vectors of {snapshot.namespace} were made by {made.embedder} ({made.dimension} numbers), the embedder now is "
            f"{space.embedder} ({space.dimension}); "
            "make them anew with `recollect memory reembed`, or set embedder.kind and embedder.model back",
            param="embedder",
        )
    dataset = opened(snapshot.location)
    if VECTOR not in dataset.schema.names:
        guarded(lambda: dataset.add_columns(pa.field(VECTOR, pa.list_(pa.float32(), space.dimension))))
    guarded(lambda: dataset.update_schema_metadata({"embedder": space.embedder}))
    return again(snapshot)
