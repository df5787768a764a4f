"""Auditing the memories of a namespace, and mending what an audit found. Neither needs a model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from recollect.audit import Audit, AuditOptions, Mended, Tell, untold
from recollect.errors import RecollectError
from recollect.memory import MemoryRecord, MemoryWrite, Namespace
from recollect.stores import LocalStore
from recollect.trajectory import now
from server.service.forget import Forgetting
from server.service.loops import all_fences, loops, unused
from server.service.memories import Memories
from server.service.pending import PendingWrites
from server.service.recalled import Recalled, recalled

DELETED_TOGETHER = 1_000


class Auditing:
    """The use cases `audit` and `mend`. One at a time: an audit compares all pairs of memories."""

    def __init__(self, home: Path, store: LocalStore, memories: Memories, forgetting: Forgetting, pending: PendingWrites) -> None:
        self._log = home / "trajectories"
        self._store = store
        self._memories = memories
        self._forgetting = forgetting
        self._pending = pending
        self._lock = asyncio.Lock()

    async def audit(self, namespace: Namespace, options: AuditOptions = AuditOptions(), tell: Tell = untold) -> Audit:
        """All findings of a namespace. `tell` is called in another thread. Raises RecollectError."""
        async with self._lock:
            began = time.monotonic()
            records = await self._current(namespace)
            stored = await self._store.audit(namespace, options, tell)
            log = await self._recalled(namespace, tell)
            hidden = {secret.id for secret in stored.secrets}
            return Audit(
                namespace=str(namespace),
                at=now(),
                seconds=round(time.monotonic() - began, 3),
                options=options,
                store=stored,
                loops=loops(records, log, all_fences(), hidden, options.limit),
                unused=unused(records, log, options.unused_days, now(), hidden, options.limit),
                corrupt_lines=log.corrupt_lines,
            )

    async def mend(self, namespace: Namespace, *, duplicates: Sequence[str] = (), secrets: Sequence[str] = ()) -> Mended:
        """Delete the exact duplicates and forget the memories with secrets that are named, as far as they still are such.

        A deletion can be undone by the history; forgetting cannot. What stays of a group of duplicates is never deleted.
        Raises Conflict if a duplicate was changed meanwhile, and what forgetting raises.
        """
        async with self._lock:
            deleted = await self._without(namespace, set(duplicates))
            forgotten: list[str] = []
            for memory_id in await self._holding(namespace, set(secrets)):
                await self._forgetting.memory(namespace, memory_id)
                forgotten.append(memory_id)
            left = sorted({*duplicates, *secrets} - {*deleted, *forgotten})
            return Mended(deleted=tuple(deleted), forgotten=tuple(forgotten), left=tuple(left))

    async def _without(self, namespace: Namespace, named: set[str]) -> list[str]:
        """Delete those of the named ids that repeat another memory."""
        if not named:
            return []
        from memory_store.audit.duplicates import exact

        async with self._pending.alone(namespace):
            records = await self._current(namespace)
            repeated = [records[place] for places in await asyncio.to_thread(exact, records) for place in places[1:]]
            doomed = [record for record in repeated if record.id in named]
            for start in range(0, len(doomed), DELETED_TOGETHER):
                batch = doomed[start : start + DELETED_TOGETHER]
                await self._store.apply(namespace, [MemoryWrite(op="delete", id=r.id, if_seq=r.seq_from) for r in batch])
            return [record.id for record in doomed]

    async def _holding(self, namespace: Namespace, named: set[str]) -> list[str]:
        """Those of the named ids of which a version holds a secret."""
        if not named:
            return []
        from memory_store.audit.secrets import secrets_in

        def chosen(record: MemoryRecord) -> bool:
            return record.id in named and bool(secrets_in(record)[0])

        return sorted({record.id for record in await self._store.find(namespace, chosen)})

    async def _current(self, namespace: Namespace) -> list[MemoryRecord]:
        return [record async for record in self._memories.export(namespace)]

    async def _recalled(self, namespace: Namespace, tell: Tell) -> Recalled:
        given_up = threading.Event()

        def advance(events: int) -> None:
            if given_up.is_set():
                raise RecollectError("the audit was given up", code="given_up")
            tell("log", events, 0)

        try:
            return await asyncio.to_thread(recalled, self._log, namespace, advance)
        finally:
            given_up.set()
