"""The memory store of all tenants: `<root>/<tenant>/` is a LanceDB database, a table per namespace."""

from __future__ import annotations

import asyncio
import builtins
import logging
import os
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path

from memory_store.embedders.base import Embedded, Embedder, embedded
from memory_store.embedders.cached import CachedEmbedder
from memory_store.faults import settled
from memory_store.fork import ForkedMemory
from memory_store.location import Location
from memory_store.naming import tenant_folder
from memory_store.plan import check
from memory_store.query import check_range, check_reach, prepared, vectors_of
from memory_store.tables import Limits, OpenTables
from memory_store.writer import Writer
from recollect.audit import AuditOptions, StoreAudit, Tell, untold
from recollect.errors import ConfigurationError, EmbedderError, InvalidRequest, RecollectError
from recollect.memory import (
    Applied,
    Filters,
    Kind,
    MemoryRecord,
    MemoryWrite,
    Namespace,
    NamespaceStats,
    Ranking,
    SearchHit,
    SearchMode,
)

VIEW_ROWS = 20_000
HELD_ROWS = 150_000
PAGE = 1000
OPEN_TABLES = 2_048
"""An open table costs about a quarter of a megabyte."""
FORGETS_LOCALLY = "memories in an object storage cannot be made sure to be gone: no lock keeps other writers out, and versions may be kept"
log = logging.getLogger(__name__)
CACHE_BYTES = 64 * 2**20
COMMITS_AT_ONCE = max(1, (os.cpu_count() or 1) // 2)


class LanceMemoryStore:
    """Implements `recollect.stores.LocalStore`. One object per process and home; any number of processes may share a home.

    A namespace of up to `view_rows` rows (versions included) is searched in memory, exactly, by the code that forks are
    searched by; a larger one inside LanceDB. All views together hold about `held_rows` rows; the least used give way.
    """

    def __init__(
        self,
        root: Path | str,
        embedder: Embedder | None,
        *,
        storage_options: Mapping[str, str] | None = None,
        view_rows: int = VIEW_ROWS,
        held_rows: int = HELD_ROWS,
        open_tables: int = OPEN_TABLES,
        idle_s: float = 15.0,
        keep_versions: timedelta = timedelta(seconds=60),
        commits_at_once: int = COMMITS_AT_ONCE,
    ) -> None:
        """`root`: a folder, or a URI of an object storage such as s3://bucket/prefix, with Lance's `storage_options`.

        `idle_s`: compact a table this long after its last write. `keep_versions`: how long replaced files stay for other
        processes that may be reading them. At most `open_tables` that nobody writes to stay open. `commits_at_once`: of all
        tables of a folder together; a commit is work for a core, and searches, for which somebody waits, need cores too.
        """
        self._root = Location.of(root, storage_options)
        gate = nullcontext() if self._root.path is None else asyncio.Semaphore(commits_at_once)
        self._tables = OpenTables(
            self._root,
            CachedEmbedder(embedder) if embedder else None,
            Limits(view_rows, held_rows, open_tables),
            partial(Writer, idle_s=idle_s, keep=keep_versions, gate=gate),
        )

    @property
    def embedder(self) -> Embedder | None:
        return self._tables.embedder

    @property
    def held_rows(self) -> int:
        """How many rows all views hold now."""
        return self._tables.held_rows

    @property
    def open_tables(self) -> int:
        """How many tables are open now."""
        return len(self._tables)

    async def apply(self, namespace: Namespace, writes: Sequence[MemoryWrite]) -> Applied:
        """Commit `writes`, all or nothing; returns after the commit. Texts that the embedder fails on get their vectors later.

        Raises InvalidRequest, NotFound, Conflict, StorageFull.
        """
        opened = await self._tables.get(namespace)
        check(writes)
        try:
            vectors = await vectors_of(self._tables.embedder, writes)
        except EmbedderError as exc:
            log.warning("memories of %s are stored without a vector for now: %s", namespace, exc.message)
            applied = await opened.writer.apply(writes, {})
            self._tables.fill_again(namespace, opened)
            return applied
        return await opened.writer.apply(writes, vectors)

    async def get(self, namespace: Namespace, memory_id: str, *, as_of: int | None = None) -> MemoryRecord | None:
        check_range(1, 0, as_of)
        table = (await self._tables.get(namespace)).table
        return await table.get(memory_id, as_of)

    async def list(
        self, namespace: Namespace, *, limit: int = 100, offset: int = 0, kind: Kind | None = None, as_of: int | None = None
    ) -> builtins.list[MemoryRecord]:
        """Records, newest first."""
        check_range(limit, offset, as_of)
        table = (await self._tables.get(namespace)).table
        return await table.list(limit, offset, kind, as_of)

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
        """The best `limit` records, best first. Without an embedder, dense parts are left out. Raises InvalidRequest, EmbedderError."""
        asked = await prepared(self._tables.embedder, query, mode, limit, filters, ranking, as_of)
        table = (await self._tables.get(namespace)).table
        return [] if asked is None else await table.search(asked)

    async def neighbours(
        self, namespace: Namespace, memory_id: str, *, reach: int = 2, as_of: int | None = None
    ) -> builtins.list[MemoryRecord]:
        """An episodic memory with up to `reach` memories of its session before and after it, in their order. Raises InvalidRequest."""
        check_range(1, 0, as_of)
        check_reach(reach)
        return await (await self._tables.get(namespace)).table.neighbours(memory_id, reach, as_of)

    async def export(self, namespace: Namespace) -> AsyncGenerator[MemoryRecord]:
        """All current records, oldest first, as of one moment."""
        async for record in (await self._tables.get(namespace)).table.export():
            yield record

    async def history(self, namespace: Namespace, memory_id: str) -> builtins.list[MemoryRecord]:
        table = (await self._tables.get(namespace)).table
        return await table.history(memory_id)

    async def seq(self, namespace: Namespace) -> int:
        snapshot = await (await self._tables.get(namespace)).table.snapshot()
        return snapshot.seq if snapshot else 0

    async def fork(self, namespace: Namespace, *, as_of: int | None = None) -> ForkedMemory:
        """A private copy of one namespace; it stands on the view that reads use, so a hundred forks cost little more than one."""
        check_range(1, 0, as_of)
        view = await (await self._tables.get(namespace)).table.view()
        return ForkedMemory(namespace, view if as_of is None else view.at(as_of), self._tables.embedder)

    async def namespaces(self, tenant: str) -> builtins.list[Namespace]:
        """Every namespace of a tenant that holds or held a memory, by name."""
        folder = tenant_folder(self._root, tenant)
        if folder.path is not None and not await asyncio.to_thread(folder.path.is_dir):
            return []
        tables, token = builtins.list[str](), None
        connection = await self._tables.connection(folder)
        while True:
            page = await connection.list_tables(limit=PAGE, page_token=token)
            tables += page.tables
            if not (token := page.page_token):
                break
        names = await asyncio.to_thread(_written, [folder / f"{table}.lance" for table in tables])
        return [Namespace.parse(name, tenant=tenant) for name in sorted(names)]

    async def erase(self, namespace: Namespace, chosen: Callable[[MemoryRecord], bool]) -> builtins.list[MemoryRecord]:
        """Erase memories of which `chosen` holds for any version, from all files and for all `seq`s; returns what was erased.

        Raises RecollectError if the files that are left hold some of it.
        """
        from memory_store import erase

        opened = await self._tables.get(namespace)

        def work() -> builtins.list[MemoryRecord]:
            erased = erase.erase(_path(opened.table.location), chosen)
            opened.table.forget_view()
            return erased

        return await opened.writer.alone(lambda: settled(work, "erasing"))

    async def find(self, namespace: Namespace, chosen: Callable[[MemoryRecord], bool]) -> builtins.list[MemoryRecord]:
        """Every version of every memory of which `chosen` holds for one version: what `erase` would erase."""
        from memory_store import erase

        return await asyncio.to_thread(erase.find, _path((await self._tables.get(namespace)).table.location), chosen)

    async def stats(self, namespace: Namespace) -> NamespaceStats:
        """The size of a namespace; all zero for one never written."""
        from memory_store import upkeep

        snapshot = await (await self._tables.get(namespace)).table.snapshot()
        return await asyncio.to_thread(upkeep.stats, snapshot) if snapshot else NamespaceStats()

    async def audit(self, namespace: Namespace, options: AuditOptions = AuditOptions(), tell: Tell = untold) -> StoreAudit:
        """Duplicates, contradictions, secrets and sizes. `tell` is called in another thread, which ends soon after a cancellation."""
        from memory_store.audit import held, run

        snapshot = await (await self._tables.get(namespace)).table.snapshot()
        given_up = threading.Event()

        def told(part: str, done: int, total: int) -> None:
            if given_up.is_set():
                raise RecollectError("the audit was given up", code="given_up")
            tell(part, done, total)

        try:
            return await asyncio.to_thread(lambda: run.audit(held.held(snapshot), options, told))
        finally:
            given_up.set()

    async def drop(self, namespace: Namespace) -> builtins.list[MemoryRecord]:
        """Erase a whole namespace, its name on the disk included; returns what was erased."""
        from memory_store import erase

        opened = await self._tables.get(namespace)

        def work() -> builtins.list[MemoryRecord]:
            erased = erase.erase(_path(opened.table.location), lambda _: True)
            erase.drop(_path(opened.table.location))
            opened.table.close()
            return erased

        return await opened.writer.alone(lambda: settled(work, "dropping"))

    async def sweep(self, tenant: str) -> None:
        """Remove what killed processes left of a tenant: tables that were never committed, and those that were being dropped."""
        from memory_store import erase

        folder = _path(tenant_folder(self._root, tenant))
        await asyncio.to_thread(settled, partial(erase.sweep, folder), "sweeping")

    async def reembed(self, namespace: Namespace) -> int:
        """Make the vectors of a namespace anew with the embedder in use, in the background, if another one made them.

        Memories are found by their words meanwhile; what a process that ends leaves undone is gone on with when the namespace
        is next opened. Returns how many memories have no vector yet. Raises InvalidRequest without an embedder.
        """
        from memory_store import disk, space

        if self._tables.embedder is None:
            raise InvalidRequest("there is no embedder to make vectors with; set embedder.kind", param="embedder.kind")
        opened = await self._tables.get(namespace)
        if not await asyncio.to_thread(disk.exists, opened.table.location):
            return 0
        work = partial(space.without_others, opened.table.location, opened.table.space)
        if await opened.writer.alone(lambda: settled(work, "reembedding")):
            opened.table.forget_view()
        self._tables.fill_again(namespace, opened)
        return (await self.stats(namespace)).without_vector

    async def embed(self, texts: Sequence[str]) -> Embedded | None:
        """The vectors of texts in the space that is searched; None without an embedder. Raises EmbedderError."""
        return await embedded(self._tables.embedder, texts)

    async def attach(self, embedder: Embedder) -> None:
        """Use an embedder that became ready after the start; returns when texts stored without a vector have theirs."""
        await self._tables.attach(CachedEmbedder(embedder))

    async def close(self) -> None:
        """Commit what is queued, leave the tables tidy, and release files."""
        await self._tables.close()


def _written(tables: Sequence[Location]) -> Sequence[str]:
    from memory_store import disk

    return [name for table in tables if (name := disk.name_of(table)) is not None]


def _path(location: Location) -> Path:
    """The folder of a table that is to forget. Raises ConfigurationError in an object storage."""
    if location.path is None:
        raise ConfigurationError(f"{FORGETS_LOCALLY}; stop all servers and copy what is to stay to a new bucket", param="memory.uri")
    return location.path
