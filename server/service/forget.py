"""Forgetting: memories leave the store's files, trajectories that hold their text are blanked, and a certificate says so."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from recollect.errors import NotFound
from recollect.log import LogWriter, read_log
from recollect.memory import MemoryRecord, Namespace
from recollect.model import Frozen
from recollect.registry import Registry
from recollect.stores import LocalStore
from recollect.tools import texts_in
from recollect.trajectory import Trajectory, now
from server.agents.rmm.rerankers import Rerankers
from server.agents.rmm.topics import turns_of
from server.service.files import Files
from server.service.ids import new_id
from server.service.pending import PendingWrites
from server.service.retiring import Retiring
from server.service.sessions import OpenSession, Sessions
from server.service.workers import Workers

MIN_SAID = 12
"""Characters."""
PLACES = {
    "memory": "erased",
    "trajectories": "redacted",
    "adapters": "weights and hashes of trajectory ids; versions that learned from it are retired, and their weights deleted",
    "files": "erased with the namespace that they were uploaded in, and with their tenant",
    "runs": "recorded rollouts of tasks that were made of it are blanked; figures and hashes of trajectory ids stay",
    "evals": "answers to the tasks of suites, which are made of no user's text",
    "forgotten": "certificates, without text",
    "workers": "conversations of workers; those that hold some of it are removed",
    "delegation": "the audit of delegated work, without text",
    "responses": "ids of answers that may not be retrieved any more",
    "sessions": "names of sessions that are open; removed with what they are part of",
    "rerankers": "weights; samples that wait for an update are dropped, and with a tenant all of it goes",
    "embedders": "models",
    "logs": "the engine's log; it is started so that it logs no prompt",
    "usage.json": "counts of model calls",
    "usage": "counts of requests, model calls and tokens, by tenant, key and day",
    "keys": "hashes of API keys with the names that they were given",
    "connected.json": "what connect changed in the files of clients",
    "server.json": "where the server listens, and what its owner's commands ask it with",
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
    files: int = 0
    adapters: tuple[str, ...]
    """Versions whose training data held some of it, and those that were trained from them."""
    retired: tuple[str, ...] = ()
    """Those of them that this retired; others were retired before."""
    quarantined: tuple[str, ...] = ()
    """Candidates that were never published and learned from it. They are deleted."""
    runs: tuple[str, ...] = ()
    """Training runs whose recorded rollouts held some of it."""
    was: dict[str, str] = Field(default_factory=dict[str, str])
    """By policy that lost its current version: that version."""
    now: dict[str, str] = Field(default_factory=dict[str, str])
    """And what it answers with since: a version, or `base`."""
    verified: str


class Forgetting:
    """The use case `forget`. One at a time; answers in progress of the namespace are waited for."""

    def __init__(
        self,
        home: Path,
        store: LocalStore,
        files: Files,
        log: LogWriter,
        registry: Registry,
        pending: PendingWrites,
        quiet: Callable[[Namespace], Awaitable[None]],
        rerankers: Rerankers,
        sessions: Sessions,
        reflecting: asyncio.Lock,
        follow: Callable[[], Awaitable[None]],
        workers: Workers,
    ) -> None:
        """`quiet` waits until no answer of a namespace is in progress; `reflecting` is held while a session is reflected on; `follow`
        has requests answered with what the registry points at."""
        self._workers = workers
        self._home = home
        self._store = store
        self._files = files
        self._log = log
        self._registry = registry
        self._pending = pending
        self._quiet = quiet
        self._rerankers = rerankers
        self._sessions = sessions
        self._reflecting = reflecting
        self._follow = follow
        self._lock = asyncio.Lock()

    async def memory(self, namespace: Namespace, memory_id: str) -> Certificate:
        """Forget one memory in all its versions, what was summed up from it, and every trajectory that wrote, recalled or said it.

        Raises NotFound.
        """
        return await self._forget(
            "memory",
            [namespace],
            target=memory_id,
            chosen=lambda record: record.id == memory_id or memory_id in turns_of(record),
            holds=lambda trajectory: memory_id in _touched(trajectory),
        )

    async def session(self, namespace: Namespace, session: str) -> Certificate:
        """Forget the trajectories of a session, and every memory that it wrote. Raises NotFound."""
        logged = await self._logged(namespace.tenant)
        ids = {t.id for t in logged if t.session == session and t.namespace == str(namespace)}
        return await self._forget(
            "session",
            [namespace],
            target=session,
            chosen=lambda record: record.provenance.session == session or record.provenance.trajectory_id in ids,
            holds=lambda t: t.session == session and t.namespace == str(namespace),
        )

    async def namespace(self, namespace: Namespace) -> Certificate:
        """Forget everything of a namespace, its name on the disk included."""
        return await self._forget("namespace", [namespace], holds=lambda t: t.namespace == str(namespace))

    async def tenant(self, tenant: str) -> Certificate:
        """Forget everything of a tenant."""
        found = [*await self._store.namespaces(tenant)]
        return await self._forget("tenant", found or [Namespace(tenant=tenant)], holds=lambda _: True)

    async def _forget(
        self,
        scope: Scope,
        namespaces: Sequence[Namespace],
        *,
        target: str | None = None,
        chosen: Callable[[MemoryRecord], bool] | None = None,
        holds: Callable[[Trajectory], bool],
    ) -> Certificate:
        """Redact first, retire and erase then, so that a failure between can be mended by forgetting again.

        Redacted once more after it: an answer that ran meanwhile may have recalled what was about to go.
        """
        async with self._lock, self._reflecting:
            tenant = namespaces[0].tenant
            retiring = Retiring(self._registry, self._home, tenant, new_id())
            files = await asyncio.to_thread(self._forget_files, scope, namespaces[0])
            await self._workers.interrupt(tenant, None if scope == "tenant" else namespaces[0])
            await self._sessions.forget(lambda one: _open_in(one, scope, tenant, str(namespaces[0]), target))
            doomed: list[MemoryRecord] = []
            for namespace in namespaces:
                await self._quiet(namespace)
                doomed += await self._store.find(namespace, chosen or _all)
            ids, events = await self._redacted(tenant, doomed, holds, files)
            if target is not None and not doomed and not ids:
                raise NotFound(f"no {scope} {target!r} in {namespaces[0]} is or was known", param="id" if scope == "memory" else scope)
            await self._retired(retiring, ids)
            erased = [record for namespace in namespaces for record in await self._erased(namespace, chosen)]
            for namespace in namespaces:
                await self._quiet(namespace)
            if scope == "tenant":
                await self._store.sweep(tenant)
            await asyncio.to_thread(self._rerankers.forget if scope == "tenant" else self._rerankers.drop_pending, tenant)
            later, more = await self._redacted(tenant, [*doomed, *erased], holds, files)
            if later - ids:
                await self._retired(retiring, later)
            texts = {record.text for record in (*doomed, *erased) if len(record.text) >= MIN_SAID}
            whole = {"tenant": "*", "namespace": str(namespaces[0])}.get(scope)
            await self._workers.forget(tenant, whole, ids | later, texts)
            certificate = Certificate(
                id=retiring.certificate,
                at=now(),
                scope=scope,
                tenant=tenant,
                namespace=None if scope == "tenant" else str(namespaces[0]),
                target=target,
                memories=len({(record.namespace, record.id) for record in erased}),
                versions=sum(record.seq_to != record.seq_from for record in erased),
                trajectories=len(ids | later),
                events=events + more,
                files=len(files),
                adapters=retiring.named,
                retired=retiring.retired,
                quarantined=retiring.quarantined,
                runs=retiring.runs,
                was=retiring.was,
                now=await asyncio.to_thread(retiring.now),
                verified="decoded pages and raw bytes of every file of the table, no index, no row only marked as deleted"
                if chosen
                else "the tables' folders are gone",
            )
            await asyncio.to_thread(self._keep, certificate)
            return certificate

    async def _erased(self, namespace: Namespace, chosen: Callable[[MemoryRecord], bool] | None) -> Sequence[MemoryRecord]:
        async with self._pending.alone(namespace):
            return await self._store.drop(namespace) if chosen is None else await self._store.erase(namespace, chosen)

    def _forget_files(self, scope: Scope, namespace: Namespace) -> set[str]:
        if scope == "tenant":
            return self._files.drop(namespace.tenant)
        if scope == "namespace":
            return self._files.forget(namespace.tenant, lambda record: record.namespace == str(namespace))
        return set()

    async def _redacted(
        self, tenant: str, erased: Sequence[MemoryRecord], holds: Callable[[Trajectory], bool], files: set[str]
    ) -> tuple[set[str], int]:
        """Blank the trajectories that hold some of it; their ids, and how many events were blanked."""
        written = {record.provenance.trajectory_id for record in erased}
        memories, texts = {record.id for record in erased}, {record.text for record in erased if record.text}
        ids = {
            t.id
            for t in await self._logged(tenant)
            if t.id in written or holds(t) or memories & _touched(t) or _says(t, texts) or any(m.file_id in files for m in t.request)
        }
        return ids, await asyncio.to_thread(self._log.redact, ids) if ids else 0

    async def _logged(self, tenant: str) -> list[Trajectory]:
        """Raises CorruptLog: what cannot be read cannot be said to hold nothing."""
        contents = await asyncio.to_thread(read_log, self._home / "trajectories", strict=True)
        return [item.trajectory for item in contents.trajectories if item.trajectory.tenant == tenant]

    async def _retired(self, retiring: Retiring, ids: set[str]) -> None:
        await asyncio.to_thread(retiring.of, ids)
        if retiring.retired:  # the version in force, or a canary
            await self._follow()

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


def _open_in(one: OpenSession, scope: Scope, tenant: str, namespace: str, target: str | None) -> bool:
    """Whether an open session is among what is forgotten."""
    if one.tenant != tenant or scope == "memory":
        return False
    return scope == "tenant" or (one.namespace == namespace and (scope == "namespace" or one.session == target))


def _all(_: MemoryRecord) -> bool:
    return True


def _says(trajectory: Trajectory, texts: set[str]) -> bool:
    """Whether one of the texts is a message or the answer of a trajectory, or, if it is long enough to be no chance, in one."""
    said = {message.content for message in trajectory.request} | {trajectory.answer, trajectory.answer_reasoning}
    said |= set(texts_in(json.dumps(list(trajectory.asked.get("metadata", {}).values()))))  # the rest of it are the protocol's own words
    said |= {text for step in trajectory.steps for text in (step.text, step.reasoning, *(m.content for m in step.messages or ()))}
    messages = [*trajectory.request, *(message for step in trajectory.steps for message in step.messages or ())]
    calls = [*trajectory.answer_calls, *(call for one in (*messages, *trajectory.steps) for call in one.tool_calls)]
    said |= {text for arguments in {call.arguments for call in calls} for text in texts_in(arguments)}
    if texts & {text.strip() for text in said}:
        return True
    return any(text in one for text in texts if len(text) >= MIN_SAID for one in said)


def _touched(trajectory: Trajectory) -> set[str]:
    """The ids of the memories that a trajectory wrote, changed or recalled: it holds their text."""
    written = {op.id for step in trajectory.steps for op in step.memory_ops if op.id}
    return written | {ref.id for step in trajectory.steps for ref in step.retrieved}
