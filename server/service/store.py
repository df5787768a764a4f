"""A memory store that is opened in the background, so that the server is ready before its libraries are loaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from memory_store.embedders.base import Embedded, EmbeddingStore
from recollect.audit import AuditOptions, StoreAudit, Tell
from recollect.memory import Applied, Filters, Kind, MemoryRecord, MemoryWrite, Namespace, NamespaceStats, Ranking, SearchHit, SearchMode
from recollect.stores import LocalStore, MemoryStore
from server import tracing


class OpeningStore:
    """Passes every call on to the store that `open_store` gives, and waits for it where it is not there yet.

    If opening fails, every call raises what it failed with.
    """

    def __init__(self, open_store: Callable[[], Awaitable[LocalStore]], searched: Callable[[float], None] = lambda seconds: None) -> None:
        """`searched` is told how long each search took."""
        self._open = open_store
        self._searched = searched
        self._opening: asyncio.Task[LocalStore] | None = None

    def start(self) -> None:
        """Begin to open the store."""
        self._opening = self._opening or asyncio.ensure_future(self._open())

    async def opened(self) -> None:
        """Wait until the store is open, or could not be opened."""
        self.start()
        assert self._opening is not None
        await asyncio.wait({self._opening})

    @property
    def failure(self) -> BaseException | None:
        """What opening failed with; None if it did not, or goes on."""
        opening = self._opening
        return opening.exception() if opening is not None and opening.done() and not opening.cancelled() else None

    async def apply(self, namespace: Namespace, writes: Sequence[MemoryWrite]) -> Applied:
        with tracing.span(name := _operation(writes), _about(name, namespace)) as span:
            span.set("gen_ai.memory.record.count", len(writes))
            return await (await self._store()).apply(namespace, writes)

    async def get(self, namespace: Namespace, memory_id: str, *, as_of: int | None = None) -> MemoryRecord | None:
        return await (await self._store()).get(namespace, memory_id, as_of=as_of)

    async def list(
        self, namespace: Namespace, *, limit: int = 100, offset: int = 0, kind: Kind | None = None, as_of: int | None = None
    ) -> Sequence[MemoryRecord]:
        return await (await self._store()).list(namespace, limit=limit, offset=offset, kind=kind, as_of=as_of)

    async def search(
        self,
        namespace: Namespace,
        query: str,
        *,
        limit: int = 10,
        mode: SearchMode = "hybrid",
        filters: Filters = Filters(),
        ranking: Ranking = Ranking(),
        as_of: int | None = None,
    ) -> Sequence[SearchHit]:
        with tracing.span("search_memory", _about("search_memory", namespace)) as span:
            store = await self._store()
            began = time.perf_counter()
            found = await store.search(namespace, query, limit=limit, mode=mode, filters=filters, ranking=ranking, as_of=as_of)
            self._searched(time.perf_counter() - began)
            span.set("gen_ai.memory.record.count", len(found))
            return found

    async def neighbours(self, namespace: Namespace, memory_id: str, *, reach: int = 2, as_of: int | None = None) -> Sequence[MemoryRecord]:
        return await (await self._store()).neighbours(namespace, memory_id, reach=reach, as_of=as_of)

    async def export(self, namespace: Namespace) -> AsyncGenerator[MemoryRecord]:
        async for record in (await self._store()).export(namespace):
            yield record

    async def history(self, namespace: Namespace, memory_id: str) -> Sequence[MemoryRecord]:
        return await (await self._store()).history(namespace, memory_id)

    async def seq(self, namespace: Namespace) -> int:
        return await (await self._store()).seq(namespace)

    async def fork(self, namespace: Namespace, *, as_of: int | None = None) -> MemoryStore:
        return await (await self._store()).fork(namespace, as_of=as_of)

    async def namespaces(self, tenant: str) -> Sequence[Namespace]:
        return await (await self._store()).namespaces(tenant)

    async def find(self, namespace: Namespace, chosen: Callable[[MemoryRecord], bool]) -> Sequence[MemoryRecord]:
        return await (await self._store()).find(namespace, chosen)

    async def erase(self, namespace: Namespace, chosen: Callable[[MemoryRecord], bool]) -> Sequence[MemoryRecord]:
        return await (await self._store()).erase(namespace, chosen)

    async def stats(self, namespace: Namespace) -> NamespaceStats:
        return await (await self._store()).stats(namespace)

    async def reembed(self, namespace: Namespace) -> int:
        return await (await self._store()).reembed(namespace)

    async def audit(self, namespace: Namespace, options: AuditOptions, tell: Tell) -> StoreAudit:
        return await (await self._store()).audit(namespace, options, tell)

    async def sweep(self, tenant: str) -> None:
        await (await self._store()).sweep(tenant)

    async def drop(self, namespace: Namespace) -> Sequence[MemoryRecord]:
        return await (await self._store()).drop(namespace)

    async def embed(self, texts: Sequence[str]) -> Embedded | None:
        """The vectors of texts in the space that is searched; None where the store has no embedder. Raises EmbedderError."""
        store = await self._store()
        return await store.embed(texts) if isinstance(store, EmbeddingStore) else None

    async def close(self) -> None:
        """Close the store; wait for its opening if that goes on."""
        if self._opening is not None and self.failure is None:
            await (await self._opening).close()

    async def _store(self) -> LocalStore:
        self.start()
        assert self._opening is not None
        # Shielded: a request that is cancelled while it waits must not cancel the opening for all.
        return await asyncio.shield(self._opening)


def _operation(writes: Sequence[MemoryWrite]) -> str:
    """What OpenTelemetry calls a batch: by what it does, or `upsert_memory` if it does several things."""
    kinds = {write.op for write in writes}
    return (
        {"add": "create_memory", "update": "update_memory", "delete": "delete_memory"}[kinds.pop()] if len(kinds) == 1 else "upsert_memory"
    )


def _about(operation: str, namespace: Namespace) -> dict[str, tracing.Value]:
    # The tenant's database is the store; the namespace in it may name a person.
    return {"gen_ai.operation.name": operation, "gen_ai.memory.store.id": namespace.tenant}
