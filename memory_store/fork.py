"""A private copy of one namespace, in memory: a view shared with the store, and the fork's own commits on top."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime

from memory_store.embedders.base import Embedded, Embedder, embedded
from memory_store.plan import check, plan
from memory_store.query import check_range, check_reach, prepared, vectors_of
from memory_store.view import View
from recollect.errors import InvalidRequest
from recollect.memory import Applied, Filters, Kind, MemoryRecord, MemoryWrite, Namespace, Ranking, SearchHit, SearchMode


class ForkedMemory:
    """Implements `recollect.stores.MemoryStore` over one namespace, with the semantics of the store. Nothing reaches the disk."""

    def __init__(self, namespace: Namespace, view: View, embedder: Embedder | None) -> None:
        self._namespace = namespace
        self._view = view
        self._embedder = embedder

    async def apply(self, namespace: Namespace, writes: Sequence[MemoryWrite]) -> Applied:
        """Apply `writes`, all or nothing. Raises InvalidRequest, NotFound, Conflict, EmbedderError."""
        self._mine(namespace)
        check(writes)
        vectors = await vectors_of(self._embedder, writes)
        rows = ((write.id, self._view.row(write.id)) for write in writes)
        current = {memory_id: row for memory_id, row in rows if row is not None}
        planned = plan(str(namespace), writes, vectors, self._view.seq + 1, current, datetime.now(UTC))
        if planned.rows:
            self._view = self._view.advanced(planned.rows)
        return Applied(seq=self._view.seq, records=planned.records)

    async def get(self, namespace: Namespace, memory_id: str, *, as_of: int | None = None) -> MemoryRecord | None:
        self._mine(namespace)
        check_range(1, 0, as_of)
        return self._view.get(memory_id, as_of)

    async def list(
        self, namespace: Namespace, *, limit: int = 100, offset: int = 0, kind: Kind | None = None, as_of: int | None = None
    ) -> builtins.list[MemoryRecord]:
        self._mine(namespace)
        check_range(limit, offset, as_of)
        return self._view.newest(limit, offset, kind, as_of)

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
    ) -> builtins.list[SearchHit]:
        self._mine(namespace)
        asked = await prepared(self._embedder, query, mode, limit, filters, ranking, as_of)
        return [] if asked is None else self._view.search(asked)

    async def neighbours(
        self, namespace: Namespace, memory_id: str, *, reach: int = 2, as_of: int | None = None
    ) -> builtins.list[MemoryRecord]:
        self._mine(namespace)
        check_range(1, 0, as_of)
        check_reach(reach)
        return self._view.neighbours(memory_id, reach, as_of)

    async def export(self, namespace: Namespace) -> AsyncGenerator[MemoryRecord]:
        self._mine(namespace)
        for record in self._view.oldest():
            yield record

    async def history(self, namespace: Namespace, memory_id: str) -> builtins.list[MemoryRecord]:
        self._mine(namespace)
        return self._view.history(memory_id)

    async def seq(self, namespace: Namespace) -> int:
        self._mine(namespace)
        return self._view.seq

    async def fork(self, namespace: Namespace, *, as_of: int | None = None) -> ForkedMemory:
        self._mine(namespace)
        check_range(1, 0, as_of)
        return ForkedMemory(namespace, self._view if as_of is None else self._view.at(as_of), self._embedder)

    async def namespaces(self, tenant: str) -> Sequence[Namespace]:
        return [self._namespace] if tenant == self._namespace.tenant and self._view.seq else []

    async def embed(self, texts: Sequence[str]) -> Embedded | None:
        """The vectors of texts in the space that is searched; None without an embedder. Raises EmbedderError."""
        return await embedded(self._embedder, texts)

    async def close(self) -> None:
        """Nothing is held open."""

    def _mine(self, namespace: Namespace) -> None:
        if namespace != self._namespace:
            raise InvalidRequest(f"this fork holds {self._namespace} only, not {namespace}", param="namespace")
