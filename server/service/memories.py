"""Memories: add, read, search and delete, as HTTP and MCP offer them. Every answer comes after the commit."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime

from recollect.errors import Conflict, InvalidRequest, NotFound
from recollect.memory import (
    MAX_TEXT,
    MEMORY_ID,
    Applied,
    Context,
    Filters,
    Kind,
    MemoryRecord,
    MemoryWrite,
    Namespace,
    NamespaceStats,
    Ranking,
    Scalar,
    SearchHit,
    SearchMode,
    Trust,
)
from recollect.stores import LocalStore
from server.service.changes import Change, writes_of
from server.service.ids import new_id
from server.service.pending import PendingWrites
from server.service.token_budget import fitting
from server.service.undo import undoing

PENDING_WAIT_S = 1.0
ATTEMPTS = 50
"""Of a change that takes over what it does not name: each time that another was quicker, it reads again."""


class Memories:
    """The memories of a namespace. Reading waits a moment for writes of answers that have just gone out."""

    def __init__(self, store: LocalStore, pending: PendingWrites) -> None:
        self._store = store
        self._pending = pending

    async def add(
        self,
        namespace: Namespace,
        text: str,
        *,
        memory_id: str | None = None,
        kind: Kind = "semantic",
        metadata: Mapping[str, Scalar] | None = None,
        tags: Sequence[str] = (),
        importance: float | None = None,
        trust: Trust = "user",
        valid_at: datetime | None = None,
        invalid_at: datetime | None = None,
        session: str | None = None,
        channel: str,
    ) -> MemoryRecord:
        """Commit one memory. The same id and text again is a no-op; another text under a known id raises Conflict."""
        if not text.strip():
            raise InvalidRequest("text is empty; write what is to be remembered", param="text")
        if len(text) > MAX_TEXT:
            raise InvalidRequest(f"text has {len(text)} characters, at most {MAX_TEXT} are kept in one memory; split it", param="text")
        change = Change(
            id=_checked(memory_id) if memory_id is not None else f"mem_{new_id()}",
            text=text,
            kind=kind,
            metadata=dict(metadata or {}),
            tags=tuple(tags),
            importance=importance,
            trust=trust,
            valid_at=valid_at,
            invalid_at=invalid_at,
            session=session,
        )
        return await self._one(namespace, change, channel)

    async def apply(self, namespace: Namespace, changes: Sequence[Change], *, channel: str) -> Applied:
        """Commit operations together, all or none. Where an update leaves something as it is, that is of the version it replaces.

        Raises InvalidRequest, NotFound, and Conflict for an added id that is known with another text, and for an `if_seq` that
        is not the version's any more.
        """
        partial = {change.id for change in changes if change.partial and MEMORY_ID.fullmatch(change.id)}
        if partial:
            await self._settled(namespace)
        for _ in range(ATTEMPTS):
            found = [await self._store.get(namespace, memory_id) for memory_id in partial]
            writes = writes_of(changes, {record.id: record for record in found if record is not None}, channel=channel)
            try:
                return await self._store.apply(namespace, writes)
            except Conflict as exc:
                if not _overtaken(exc, changes):
                    raise
        raise Conflict(f"others change these memories all the time; {ATTEMPTS} attempts failed, try again")

    async def history(self, namespace: Namespace, memory_id: str) -> Sequence[MemoryRecord]:
        """Every version, oldest first, also of a deleted memory. Raises NotFound."""
        await self._settled(namespace)
        versions = await self._store.history(namespace, _checked(memory_id))
        if not versions:
            raise _unknown(namespace, memory_id)
        return versions

    async def get(self, namespace: Namespace, memory_id: str, *, as_of: int | None = None) -> MemoryRecord:
        """The version that is current, or was at `as_of`. Raises NotFound."""
        await self._settled(namespace)
        record = await self._store.get(namespace, _checked(memory_id), as_of=as_of)
        if record is None:
            raise _unknown(namespace, memory_id)
        return record

    async def neighbours(self, namespace: Namespace, memory_id: str, *, reach: int, as_of: int | None = None) -> Sequence[MemoryRecord]:
        """A memory with up to `reach` of its session before and after it, in their order. Raises InvalidRequest, NotFound."""
        await self._settled(namespace)
        found = await self._store.neighbours(namespace, _checked(memory_id), reach=reach, as_of=as_of)
        if not found:
            raise _unknown(namespace, memory_id)
        return found

    async def list(
        self, namespace: Namespace, *, limit: int, offset: int = 0, kind: Kind | None = None, as_of: int | None = None
    ) -> Sequence[MemoryRecord]:
        """Memories that are current, or were at `as_of`, newest first."""
        await self._settled(namespace)
        return await self._store.list(namespace, limit=limit, offset=offset, kind=kind, as_of=as_of)

    async def seq(self, namespace: Namespace) -> int:
        """The number of the last commit; 0 for a namespace never written."""
        await self._settled(namespace)
        return await self._store.seq(namespace)

    async def export(self, namespace: Namespace) -> AsyncGenerator[MemoryRecord]:
        """All current memories, oldest first, as of the moment of the call."""
        await self._settled(namespace)
        async for record in self._store.export(namespace):
            yield record

    async def reembed(self, namespaces: Sequence[Namespace]) -> Mapping[Namespace, int]:
        """Begin to make vectors anew that another embedder made; how many memories of each namespace wait. Raises ConfigurationError."""
        return {namespace: await self._store.reembed(namespace) for namespace in namespaces}

    async def of_tenant(self, tenant: str) -> Sequence[Namespace]:
        """The namespaces of a tenant."""
        return await self._store.namespaces(tenant)

    async def stats(self, namespace: Namespace) -> NamespaceStats:
        """The size of the namespace."""
        return await self._store.stats(namespace)

    async def search(
        self,
        namespace: Namespace,
        query: str,
        *,
        limit: int,
        mode: SearchMode = "hybrid",
        filters: Filters = Filters(),
        ranking: Ranking = Ranking(),
        neighbours: int = 0,
        max_tokens: int | None = None,
        as_of: int | None = None,
    ) -> Sequence[SearchHit]:
        """The best matches, best first. With `neighbours`, each with so many memories of its session before and after it.

        `max_tokens`: no more hits than fit, their neighbours included, at one token per four bytes of UTF-8; the best one always.
        """
        if not query.strip():
            raise InvalidRequest("query is empty; write what is looked for", param="query")
        await self._settled(namespace)
        if neighbours and as_of is None:
            as_of = await self._store.seq(namespace)  # so that hits and neighbours are of one moment
        hits = await self._store.search(namespace, query, limit=limit, mode=mode, filters=filters, ranking=ranking, as_of=as_of)
        if max_tokens is not None:
            hits = fitting(hits, max_tokens)
        if neighbours:
            hits = [await self._in_context(namespace, hit, neighbours, as_of) for hit in hits]
        return hits if max_tokens is None else fitting(hits, max_tokens)

    async def update(self, namespace: Namespace, change: Change, *, channel: str) -> MemoryRecord:
        """A new version of a memory; what `change` does not give stays. Raises InvalidRequest, NotFound, Conflict."""
        if not change.given:
            raise InvalidRequest("nothing is to be changed; give text, or another field of the memory", param="text")
        _checked(change.id)
        try:
            return await self._one(namespace, change, channel)
        except NotFound as exc:
            raise _unknown(namespace, change.id) from exc

    async def undo(self, namespace: Namespace, memory_id: str, *, channel: str) -> MemoryRecord:
        """Make the version before the current one current again, as a new version; of a deleted memory its last one.

        Raises NotFound, Conflict if there is no earlier version, or somebody changed the memory meanwhile.
        """
        write = undoing(await self.history(namespace, memory_id), channel=channel)
        [record] = (await self._store.apply(namespace, [write])).records
        assert record is not None
        return record

    async def delete(self, namespace: Namespace, memory_id: str) -> None:
        """Close the current version. Raises NotFound."""
        await self._settled(namespace)
        try:
            await self._store.apply(namespace, [MemoryWrite(op="delete", id=_checked(memory_id))])
        except NotFound as exc:
            raise _unknown(namespace, memory_id) from exc

    async def _one(self, namespace: Namespace, change: Change, channel: str) -> MemoryRecord:
        [record] = (await self.apply(namespace, [change], channel=channel)).records
        assert record is not None
        return record

    async def _in_context(self, namespace: Namespace, hit: SearchHit, reach: int, as_of: int | None) -> SearchHit:
        record = hit.record
        around: Sequence[MemoryRecord] = ()
        if record.kind == "episodic" and record.provenance.session is not None:
            around = await self._store.neighbours(namespace, record.id, reach=reach, as_of=as_of)
        place = next((i for i, one in enumerate(around) if one.id == record.id), 0)
        return hit.model_copy(update={"context": Context(before=tuple(around[:place]), after=tuple(around[place + 1 :]))})

    async def _settled(self, namespace: Namespace) -> None:
        await self._pending.settle(namespace, timeout_s=PENDING_WAIT_S)


def _overtaken(conflict: Conflict, changes: Sequence[Change]) -> bool:
    """Whether somebody changed a memory between our reading it and our writing it, and the caller did not say which version it saw."""
    refused = re.fullmatch(r"writes\.(\d+)\.if_seq", conflict.param or "")
    return refused is not None and changes[int(refused[1])].if_seq is None


def _checked(memory_id: str) -> str:
    if not MEMORY_ID.fullmatch(memory_id):
        raise InvalidRequest(
            "a memory's id has 1 to 128 letters, digits, '_', '-', '.' and ':', and begins with a letter or digit",
            param="id",
            code="invalid_id",
        )
    return memory_id


def _unknown(namespace: Namespace, memory_id: str) -> NotFound:
    return NotFound(f"no memory {memory_id!r} in namespace {str(namespace)!r}", param="id", code="memory_not_found")
