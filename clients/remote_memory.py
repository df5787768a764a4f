"""The memory store of a running server, for code that takes any store."""

from __future__ import annotations

import builtins
import re
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, contextmanager

from clients.client import RecollectClient
from recollect.errors import InvalidRequest, NotFound, RecollectError
from recollect.memory import (
    LOCAL_TENANT,
    MEMORY_ID,
    Applied,
    Filters,
    Kind,
    MemoryRecord,
    MemoryWrite,
    Namespace,
    Ranking,
    SearchHit,
    SearchMode,
)

PAGE = 1_000
"""Memories that the server gives at once."""


class RemoteMemory:
    """Implements `recollect.stores.BaseStore` over HTTP; errors have the types and the `param` names of a local store.

    Of provenance a write carries the session alone: the server says which channel it came by. It refuses trust `operator`, metadata
    of more than 64 keys or with a text of more than 4,096 characters, a time of validity that ends before it begins, more than
    1,000 writes at once, and a search for more than 1,000 hits. Raises RecollectError (`unreachable`) if no server answers.
    """

    def __init__(self, client: RecollectClient) -> None:
        """`close` closes the client, too."""
        self._client = client

    async def apply(self, namespace: Namespace, writes: Sequence[MemoryWrite]) -> Applied:
        """Commit `writes`, all or nothing; returns after the commit. Raises InvalidRequest, NotFound, Conflict, StorageFull."""
        whose = _named(namespace)
        if not writes:
            return Applied(seq=await self.seq(namespace), records=())
        with _as_of_a_store():
            return await self._client.apply(writes, namespace=whose)

    async def get(self, namespace: Namespace, memory_id: str, *, as_of: int | None = None) -> MemoryRecord | None:
        """The version that is current, or was current at `as_of`."""
        whose = _named(namespace)
        try:
            return await self._client.get_memory(memory_id, namespace=whose, as_of=as_of) if _possible(memory_id) else None
        except NotFound as exc:
            _check_missing(exc)
            return None

    async def list(
        self, namespace: Namespace, *, limit: int = 100, offset: int = 0, kind: Kind | None = None, as_of: int | None = None
    ) -> builtins.list[MemoryRecord]:
        """Current records, newest first, of one moment. Raises InvalidRequest."""
        whose = _named(namespace)
        found = builtins.list[MemoryRecord]()
        while True:
            more = min(limit - len(found), PAGE)
            page = await self._client.page_of_memories(namespace=whose, kind=kind, limit=more, offset=offset + len(found), as_of=as_of)
            found += page.records
            as_of = page.seq
            if len(found) >= limit or not page.has_more:
                return found

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
        """The best `limit` records, best first. Raises InvalidRequest, EmbedderError."""
        whose = _named(namespace)
        text = query.encode(errors="replace").decode()
        if not text.strip():  # nothing to look for, which is an error by HTTP and none in a store
            return []
        with _as_of_a_store():
            return await self._client.search_memories(
                text, namespace=whose, limit=limit, mode=mode, filters=filters, ranking=ranking, as_of=as_of
            )

    async def neighbours(
        self, namespace: Namespace, memory_id: str, *, reach: int = 2, as_of: int | None = None
    ) -> builtins.list[MemoryRecord]:
        """An episodic memory with up to `reach` memories of its session before and after it, in their order. Raises InvalidRequest."""
        whose = _named(namespace)
        try:
            return await self._client.neighbours(memory_id, namespace=whose, reach=reach, as_of=as_of) if _possible(memory_id) else []
        except NotFound as exc:
            _check_missing(exc)
            return []

    async def history(self, namespace: Namespace, memory_id: str) -> builtins.list[MemoryRecord]:
        """All versions of one memory, oldest first."""
        whose = _named(namespace)
        try:
            return await self._client.history(memory_id, namespace=whose) if _possible(memory_id) else []
        except NotFound as exc:
            _check_missing(exc)
            return []

    async def seq(self, namespace: Namespace) -> int:
        """The number of the last commit; 0 for a namespace never written."""
        return (await self._client.page_of_memories(namespace=_named(namespace), limit=1)).seq

    async def export(self, namespace: Namespace) -> AsyncGenerator[MemoryRecord]:
        """All current records, oldest first, as of one moment."""
        async with aclosing(self._client.export_memories(namespace=_named(namespace))) as records:
            async for record in records:
                yield record

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()


def _named(namespace: Namespace) -> str:
    if namespace.tenant != LOCAL_TENANT:
        raise InvalidRequest(f"a server's tenant is that of the key; use {LOCAL_TENANT!r}, not {namespace.tenant!r}", param="tenant")
    return str(namespace)


def _possible(memory_id: str) -> bool:
    """Whether a memory may have the id: what is none is unknown to a store, and by HTTP an error."""
    return MEMORY_ID.fullmatch(memory_id) is not None


def _check_missing(exc: NotFound) -> None:
    """Let only a memory be missing, not the whole API."""
    if exc.code != "memory_not_found":
        raise exc


@contextmanager
def _as_of_a_store() -> Generator[None]:
    """Name fields as stores do: `writes.1.tags.0` for `memories[1].tags[0]`."""
    try:
        yield
    except RecollectError as exc:
        if exc.param:
            named = re.sub(r"\[(\d+)\]", r".\1", re.sub(r"^memories", "writes", exc.param))
            exc.param = re.sub(r"^(writes\.\d+)\.session$", r"\1.provenance.session", named)
        raise
