"""Vectors for memories that were stored while there was no embedder, or while it failed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from memory_store.embedders.base import Embedder
from memory_store.faults import CommitConflict
from memory_store.table import NamespaceTable
from recollect.errors import ConfigurationError

BATCH = 256
PAUSE_S, MAX_PAUSE_S = 5.0, 300.0
log = logging.getLogger(__name__)


async def fill_vectors(table: NamespaceTable, embedder: Embedder) -> None:
    """Embed the current rows of a table that have no vector. What fails is logged, and tried again after a while."""
    pause = PAUSE_S
    while True:
        try:
            while await _fill_some(table, embedder) is not None:
                pass
        except ConfigurationError:  # vectors of another embedder, of which every reader is told
            return
        except Exception as exc:  # noqa: BLE001 - a background task: nobody else would ever tell of the failure
            log.warning("some memories of %s have no vector yet and are found by their words only: %s", table.namespace, exc)
        else:
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE_S)


async def _fill_some(table: NamespaceTable, embedder: Embedder) -> int | None:
    from memory_store import disk

    snapshot = await table.snapshot()
    rows = await asyncio.to_thread(disk.without_vector, snapshot, BATCH) if snapshot else []
    if snapshot is None or not rows:
        return None
    vectors = await embedder.embed([row.record.text for row in rows])
    try:
        await asyncio.to_thread(disk.fill, snapshot, [replace(row, vector=vector) for row, vector in zip(rows, vectors, strict=True)])
    except CommitConflict:
        return 0
    return len(rows)
