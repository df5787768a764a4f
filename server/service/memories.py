"""Memories: add, read, search and delete, as HTTP and MCP offer them. Every answer comes after the commit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime

from recollect.errors import InvalidRequest, NotFound
from recollect.memory import (
    MAX_TEXT,
    MEMORY_ID,
    Filters,
    Kind,
    MemoryRecord,
    MemoryWrite,
    Namespace,
    NamespaceStats,
    Provenance,
    Scalar,
    SearchHit,
    SearchMode,
)
from recollect.stores import LocalStore
from server.service.ids import new_id
from server.service.pending import PendingWrites

PENDING_WAIT_S = 1.0


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
        valid_at: datetime | None = None,
        invalid_at: datetime | None = None,
        channel: str,
    ) -> MemoryRecord:
        """Commit one memory. The same id and text again is a no-op; another text under a known id raises Conflict."""
        if not text.strip():
            raise InvalidRequest("text is empty; write what is to be remembered", param="text")
        if len(text) > MAX_TEXT:
            raise InvalidRequest(f"text has {len(text)} characters, at most {MAX_TEXT} are kept in one memory; split it", param="text")
        write = MemoryWrite(
            op="add",
            id=_checked(memory_id) if memory_id is not None else f"mem_{new_id()}",
            text=text,
            kind=kind,
            metadata=dict(metadata or {}),
            valid_at=valid_at,
            invalid_at=invalid_at,
            provenance=Provenance(channel=channel),
            trust="user",
        )
        applied = await self._store.apply(namespace, [write])
        [record] = applied.records
        assert record is not None
        return record

    async def add_all(self, namespace: Namespace, writes: Sequence[MemoryWrite]) -> Sequence[MemoryRecord]:
        """Commit memories together, all or none. Raises InvalidRequest, Conflict for an id that is known with another text."""
        applied = await self._store.apply(namespace, writes)
        return [record for record in applied.records if record is not None]

    async def history(self, namespace: Namespace, memory_id: str) -> Sequence[MemoryRecord]:
        """Every version, oldest first, also of a deleted memory. Raises NotFound."""
        await self._settled(namespace)
        versions = await self._store.history(namespace, _checked(memory_id))
        if not versions:
            raise _unknown(namespace, memory_id)
        return versions

    async def get(self, namespace: Namespace, memory_id: str) -> MemoryRecord:
        """The current version. Raises NotFound."""
        await self._settled(namespace)
        record = await self._store.get(namespace, _checked(memory_id))
        if record is None:
            raise _unknown(namespace, memory_id)
        return record

    async def list(self, namespace: Namespace, *, limit: int, offset: int = 0, kind: Kind | None = None) -> Sequence[MemoryRecord]:
        """Current memories, newest first."""
        await self._settled(namespace)
        return await self._store.list(namespace, limit=limit, offset=offset, kind=kind)

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
        self, namespace: Namespace, query: str, *, limit: int, mode: SearchMode = "hybrid", kind: Kind | None = None
    ) -> Sequence[SearchHit]:
        """The best matches, best first."""
        if not query.strip():
            raise InvalidRequest("query is empty; write what is looked for", param="query")
        await self._settled(namespace)
        return await self._store.search(namespace, query, limit=limit, mode=mode, filters=Filters(kind=kind))

    async def update(self, namespace: Namespace, memory_id: str, text: str, *, if_seq: int | None = None, channel: str) -> MemoryRecord:
        """A new version of a memory's text; the rest stays. Raises NotFound, Conflict if it is not the version of `if_seq` any more."""
        old = await self.get(namespace, memory_id)
        write = MemoryWrite(
            op="update",
            id=memory_id,
            text=text,
            kind=old.kind,
            metadata=old.metadata,
            valid_at=old.valid_at,
            invalid_at=old.invalid_at,
            provenance=Provenance(channel=channel, session=old.provenance.session),
            trust="user",
            if_seq=if_seq,
        )
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

    async def _settled(self, namespace: Namespace) -> None:
        await self._pending.settle(namespace, timeout_s=PENDING_WAIT_S)


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
