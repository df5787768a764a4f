"""The memory store of all tenants: `<root>/<tenant>/` is a LanceDB database, a table per namespace."""

from __future__ import annotations

import asyncio
import builtins
import importlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from memory_store.embedders.base import Embedder
from memory_store.embedders.cached import CachedEmbedder
from memory_store.fill import fill_vectors
from memory_store.fork import ForkedMemory
from memory_store.naming import canonical, table_name, tenant_folder
from memory_store.plan import check
from memory_store.query import check_range, prepared, vectors_of
from memory_store.rows import Space
from memory_store.table import NamespaceTable
from memory_store.writer import Writer
from recollect.errors import EmbedderError
from recollect.memory import Applied, Kind, MemoryRecord, MemoryWrite, Namespace, NamespaceStats, SearchHit, SearchMode

VIEW_ROWS = 20_000
HELD_ROWS = 60_000
log = logging.getLogger(__name__)
CACHE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Open:
    """An open table and its writer."""

    table: NamespaceTable
    writer: Writer


class LanceMemoryStore:
    """Implements `recollect.memory.MemoryStore`. One object per process and home; any number of processes may share a home.

    A namespace of up to `view_rows` rows (versions included) is searched in memory, exactly, by the code that forks are
    searched by; a larger one inside LanceDB. All views together hold about `held_rows` rows; the least used give way.
    """

    def __init__(
        self,
        root: Path,
        embedder: Embedder | None,
        *,
        view_rows: int = VIEW_ROWS,
        held_rows: int = HELD_ROWS,
        idle_s: float = 15.0,
        keep_versions: timedelta = timedelta(seconds=10),
    ) -> None:
        """`idle_s`: tidy a table this long after its last write, when even the last versions are older than `keep_versions`.

        `keep_versions`: how long replaced files stay for other processes that may be reading them.
        """
        self._root = root
        self._embedder = CachedEmbedder(embedder) if embedder else None
        self._view_rows = view_rows
        self._held_rows = held_rows
        self._idle_s = idle_s
        self._keep = keep_versions
        self._connections: dict[str, asyncio.Task[Any]] = {}
        self._open: OrderedDict[Namespace, Open] = OrderedDict()
        self._fills: dict[Namespace, asyncio.Task[None]] = {}

    @property
    def embedder(self) -> Embedder | None:
        return self._embedder

    @property
    def held_rows(self) -> int:
        """How many rows all views hold now."""
        return sum(opened.table.held_rows for opened in self._open.values())

    async def apply(self, namespace: Namespace, writes: Sequence[MemoryWrite]) -> Applied:
        """Commit `writes`, all or nothing; returns after the commit. Texts that the embedder fails on get their vectors later.

        Raises InvalidRequest, NotFound, Conflict, StorageFull.
        """
        opened = await self._table(namespace)
        check(writes)
        try:
            vectors = await vectors_of(self._embedder, writes)
        except EmbedderError as exc:
            log.warning("memories of %s are stored without a vector for now: %s", namespace, exc.message)
            applied = await opened.writer.apply(writes, {})
            self._fill_again(namespace, opened)
            return applied
        return await opened.writer.apply(writes, vectors)

    async def get(self, namespace: Namespace, memory_id: str, *, as_of: int | None = None) -> MemoryRecord | None:
        check_range(1, 0, as_of)
        table = (await self._table(namespace)).table
        return await table.get(memory_id, as_of)

    async def list(
        self, namespace: Namespace, *, limit: int = 100, offset: int = 0, kind: Kind | None = None, as_of: int | None = None
    ) -> builtins.list[MemoryRecord]:
        """Records, newest first."""
        check_range(limit, offset, as_of)
        table = (await self._table(namespace)).table
        return await table.list(limit, offset, kind, as_of)

    async def search(
        self,
        namespace: Namespace,
        query: str,
        *,
        limit: int = 10,
        mode: SearchMode = "hybrid",
        kind: Kind | None = None,
        as_of: int | None = None,
    ) -> builtins.list[SearchHit]:
        """The best `limit` records, best first. Without an embedder, dense parts are left out. Raises InvalidRequest, EmbedderError."""
        asked = await prepared(self._embedder, query, mode, limit, kind, as_of)
        table = (await self._table(namespace)).table
        return [] if asked is None else await table.search(asked)

    async def history(self, namespace: Namespace, memory_id: str) -> builtins.list[MemoryRecord]:
        table = (await self._table(namespace)).table
        return await table.history(memory_id)

    async def seq(self, namespace: Namespace) -> int:
        snapshot = await (await self._table(namespace)).table.snapshot()
        return snapshot.seq if snapshot else 0

    async def fork(self, namespace: Namespace, *, as_of: int | None = None) -> ForkedMemory:
        """A private copy of one namespace; it stands on the view that reads use, so a hundred forks cost little more than one."""
        check_range(1, 0, as_of)
        view = await (await self._table(namespace)).table.view()
        return ForkedMemory(namespace, view if as_of is None else view.at(as_of), self._embedder)

    async def namespaces(self, tenant: str) -> builtins.list[Namespace]:
        """Every namespace of a tenant that holds or held a memory, by name."""
        names = await asyncio.to_thread(_written, tenant_folder(self._root, tenant))
        return [Namespace.parse(name, tenant=tenant) for name in sorted(names)]

    async def erase(self, namespace: Namespace, chosen: Callable[[MemoryRecord], bool]) -> builtins.list[MemoryRecord]:
        """Erase memories of which `chosen` holds for any version, from all files and for all `seq`s; returns what was erased.

        Raises RecollectError if the files that are left hold some of it.
        """
        from memory_store import erase

        opened = await self._table(namespace)

        def work() -> builtins.list[MemoryRecord]:
            erased = erase.erase(opened.table.path, chosen)
            opened.table.forget_view()
            return erased

        return await opened.writer.alone(work)

    async def find(self, namespace: Namespace, chosen: Callable[[MemoryRecord], bool]) -> builtins.list[MemoryRecord]:
        """Every version of every memory of which `chosen` holds for one version: what `erase` would erase."""
        from memory_store import erase

        return await asyncio.to_thread(erase.find, (await self._table(namespace)).table.path, chosen)

    async def stats(self, namespace: Namespace) -> NamespaceStats:
        """The size of a namespace; all zero for one never written."""
        from memory_store import disk

        snapshot = await (await self._table(namespace)).table.snapshot()
        return await asyncio.to_thread(disk.stats, snapshot) if snapshot else NamespaceStats()

    async def drop(self, namespace: Namespace) -> builtins.list[MemoryRecord]:
        """Erase a whole namespace, its name on the disk included; returns what was erased."""
        from memory_store import erase

        opened = await self._table(namespace)

        def work() -> builtins.list[MemoryRecord]:
            erased = erase.erase(opened.table.path, lambda _: True)
            erase.drop(opened.table.path)
            opened.table.close()
            return erased

        return await opened.writer.alone(work)

    async def attach(self, embedder: Embedder) -> None:
        """Use an embedder that became ready after the start; returns when texts stored without a vector have theirs."""
        self._embedder = CachedEmbedder(embedder)
        for opened in self._open.values():
            opened.table.reset(Space(embedder.id, embedder.dimension))
        await asyncio.gather(*(fill_vectors(opened.table, self._embedder) for opened in self._open.values()))

    async def close(self) -> None:
        """Commit what is queued, leave the tables tidy, and release files."""
        fills = tuple(self._fills.values())
        for task in fills:
            task.cancel()
        await asyncio.gather(*fills, return_exceptions=True)
        for opened in self._open.values():
            await opened.writer.close()
        self._open.clear()
        for connection in self._connections.values():
            (await connection).close()
        self._connections.clear()

    async def _table(self, namespace: Namespace) -> Open:
        opened = self._open.get(namespace)
        if opened is None:
            path = tenant_folder(self._root, namespace.tenant) / f"{table_name(namespace)}.lance"
            space = Space(self._embedder.id, self._embedder.dimension) if self._embedder else Space()
            table = NamespaceTable(path, partial(self._connection, path.parent), canonical(namespace), space, self._view_rows)
            opened = self._open[namespace] = Open(table, Writer(table, idle_s=self._idle_s, keep=self._keep))
            self._fill(namespace, opened)
        self._open.move_to_end(namespace)
        self._trim()
        return opened

    def _trim(self) -> None:
        """Let the least used views go while all together are too large, and the least used tables while they are too many."""
        held = self.held_rows
        for opened in list(self._open.values())[:-1]:
            if held <= self._held_rows:
                break
            held -= opened.table.held_rows
            opened.table.forget_view()

    def _fill(self, namespace: Namespace, opened: Open) -> None:
        if self._embedder is not None and namespace not in self._fills:
            task = asyncio.create_task(fill_vectors(opened.table, self._embedder), name=f"vectors of {namespace}")
            self._fills[namespace] = task
            task.add_done_callback(lambda _: self._fills.pop(namespace, None))

    def _fill_again(self, namespace: Namespace, opened: Open) -> None:
        """As `_fill`; where it goes on already it may have looked before this write, so once more after it."""
        if (task := self._fills.get(namespace)) is None:
            self._fill(namespace, opened)
        else:
            task.add_done_callback(lambda done: None if done.cancelled() else self._fill(namespace, opened))

    async def _connection(self, folder: Path) -> Any:
        if folder.name not in self._connections:
            self._connections[folder.name] = asyncio.create_task(_connect(folder))
        return await asyncio.shield(self._connections[folder.name])


async def _connect(folder: Path) -> Any:
    """LanceDB's connection. The import takes a second, so it happens in a thread, with the first table."""
    lancedb = await asyncio.to_thread(importlib.import_module, "lancedb")
    session = lancedb.Session(index_cache_size_bytes=CACHE_BYTES, metadata_cache_size_bytes=CACHE_BYTES)
    return await lancedb.connect_async(str(folder), read_consistency_interval=timedelta(0), session=session)


def _written(folder: Path) -> Sequence[str]:
    from memory_store import disk

    return disk.written(folder)
