"""Forgetting: memories leave the store's files, trajectories that hold their text are blanked, and a certificate says so."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal

from recollect.errors import AdapterRefused, NotFound
from recollect.log import LogWriter, read_log
from recollect.memory import LocalStore, MemoryRecord, Namespace
from recollect.model import Frozen
from recollect.registry import Registry
from recollect.trajectory import Trajectory, now
from server.service.ids import new_id
from server.service.pending import PendingWrites

PENDING_WAIT_S = 10.0
PLACES = {
    "memory": "erased",
    "trajectories": "redacted",
    "adapters": "weights and hashes of trajectory ids; the versions that learned from it are named in the certificate",
    "runs": "figures and hashes of trajectory ids",
    "forgotten": "certificates, without text",
    "embedders": "models",
    "logs": "the engine's log; it is started so that it logs no prompt",
    "server.json": "where the server listens",
    "server.lock": "nothing",
    "train.lock": "nothing",
}
"""What becomes of each entry of the home when something is forgotten. Whatever else keeps users' text must be added, and erased."""
Scope = Literal["memory", "session", "namespace", "tenant"]


class Certificate(Frozen):
    """What was forgotten, when, and how that was verified. It holds no text of what was forgotten."""

    id: str
    at: datetime
    scope: Scope
    tenant: str
    namespace: str | None
    target: str | None
    """The memory's id or the session."""
    memories: int
    versions: int
    """Of memories, earlier and deleted ones included."""
    trajectories: int
    events: int
    """Log events that were blanked."""
    adapters: tuple[str, ...]
    """Versions whose training data held some of it."""
    verified: str


class Forgetting:
    """The use case `forget`. One at a time; answers in progress of the namespace are waited for."""

    def __init__(self, home: Path, store: LocalStore, log: LogWriter, registry: Registry, pending: PendingWrites) -> None:
        self._home = home
        self._store = store
        self._log = log
        self._registry = registry
        self._pending = pending
        self._lock = asyncio.Lock()

    async def memory(self, namespace: Namespace, memory_id: str) -> Certificate:
        """Forget one memory in all its versions, and every trajectory that wrote or recalled it. Raises NotFound."""
        known = bool(await self._store.history(namespace, memory_id))
        certificate = await self._forget(
            "memory",
            namespace,
            memory_id,
            chosen=lambda record: record.id == memory_id,
            holds=lambda trajectory: memory_id in _touched(trajectory),
        )
        if not known and not certificate.trajectories:
            raise NotFound(f"no memory {memory_id!r} in {namespace} is or was known", param="id")
        return certificate

    async def session(self, namespace: Namespace, session: str) -> Certificate:
        """Forget the trajectories of a session, and every memory that it wrote. Raises NotFound."""
        logged = await self._logged(namespace.tenant)
        ids = {t.id for t in logged if t.session == session and t.namespace == str(namespace)}
        certificate = await self._forget(
            "session",
            namespace,
            session,
            chosen=lambda record: record.provenance.session == session or record.provenance.trajectory_id in ids,
            holds=lambda trajectory: trajectory.id in ids,
        )
        if not ids and not certificate.versions:
            raise NotFound(f"no session {session!r} in {namespace} is known", param="session")
        return certificate

    async def namespace(self, namespace: Namespace) -> Certificate:
        """Forget everything of a namespace, its name on the disk included."""
        return await self._forget("namespace", namespace, None, chosen=None, holds=lambda t: t.namespace == str(namespace))

    async def tenant(self, tenant: str) -> Certificate:
        """Forget everything of a tenant."""
        async with self._lock:
            erased: list[MemoryRecord] = []
            for namespace in await self._store.namespaces(tenant):
                erased += await self._erased(namespace, None)
            return await self._finished("tenant", tenant, None, None, erased, lambda _: True)

    async def _forget(
        self,
        scope: Scope,
        namespace: Namespace,
        target: str | None,
        *,
        chosen: Callable[[MemoryRecord], bool] | None,
        holds: Callable[[Trajectory], bool],
    ) -> Certificate:
        async with self._lock:
            erased = await self._erased(namespace, chosen)
            ids = {record.id for record in erased}
            return await self._finished(
                scope, namespace.tenant, str(namespace), target, erased, lambda t: holds(t) or bool(ids & _touched(t))
            )

    async def _erased(self, namespace: Namespace, chosen: Callable[[MemoryRecord], bool] | None) -> Sequence[MemoryRecord]:
        await self._pending.settle(namespace, timeout_s=PENDING_WAIT_S)
        async with self._pending.alone(namespace):
            return await self._store.drop(namespace) if chosen is None else await self._store.erase(namespace, chosen)

    async def _finished(
        self,
        scope: Scope,
        tenant: str,
        namespace: str | None,
        target: str | None,
        erased: Sequence[MemoryRecord],
        holds: Callable[[Trajectory], bool],
    ) -> Certificate:
        """Redact what holds it, name the adapters, write the certificate."""
        ids = {t.id for t in await self._logged(tenant) if holds(t)}
        ids |= {record.provenance.trajectory_id for record in erased if record.provenance.trajectory_id}
        events = await asyncio.to_thread(self._log.redact, ids) if ids else 0
        certificate = Certificate(
            id=new_id(),
            at=now(),
            scope=scope,
            tenant=tenant,
            namespace=namespace,
            target=target,
            memories=len({(record.namespace, record.id) for record in erased}),
            versions=sum(record.seq_to != record.seq_from for record in erased),
            trajectories=len(ids),
            events=events,
            adapters=tuple(await asyncio.to_thread(self._trained_on, ids, tenant)),
            verified="decoded pages and raw bytes of every file of the table, no index, no row only marked as deleted"
            if scope in ("memory", "session")
            else "the tables' folders are gone",
        )
        await asyncio.to_thread(self._keep, certificate)
        return certificate

    async def _logged(self, tenant: str) -> list[Trajectory]:
        contents = await asyncio.to_thread(read_log, self._home / "trajectories")
        return [item.trajectory for item in contents.trajectories if item.trajectory.tenant == tenant]

    def _trained_on(self, ids: set[str], pool: str) -> list[str]:
        """The published versions whose manifests name one of the trajectories."""
        hashes = {sha256(one.encode()).hexdigest() for one in ids}
        found: list[str] = []
        for policy in self._registry.policies(pool):
            for version in self._registry.versions(policy, pool):
                try:
                    named = self._registry.manifest(policy, version, pool).trajectory_ids
                except AdapterRefused:  # what it was trained on cannot be read: it may have been this
                    found.append(f"{policy}@v{version}")
                    continue
                if hashes & set(named):
                    found.append(f"{policy}@v{version}")
        return found

    def _keep(self, certificate: Certificate) -> None:
        folder = self._home / "forgotten"
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{certificate.id}.json"
        path.touch(mode=0o600)
        path.write_text(certificate.model_dump_json(indent=1) + "\n", "utf-8")
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _touched(trajectory: Trajectory) -> set[str]:
    """The ids of the memories that a trajectory wrote, changed or recalled: it holds their text."""
    written = {op.id for step in trajectory.steps for op in step.memory_ops if op.id}
    return written | {ref.id for step in trajectory.steps for ref in step.retrieved}
