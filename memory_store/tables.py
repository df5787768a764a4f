"""The open tables of a store: as many as fit, with a writer each, and the work that gives their memories vectors."""

from __future__ import annotations

import asyncio
import importlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from memory_store.embedders.cached import CachedEmbedder
from memory_store.fill import fill_vectors
from memory_store.location import Location
from memory_store.naming import canonical, table_name, tenant_folder
from memory_store.rows import Space
from memory_store.table import Held, NamespaceTable
from memory_store.writer import Writer
from recollect.memory import Namespace

CACHE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class OpenTable:
    """An open table and its writer."""

    table: NamespaceTable
    writer: Writer


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a store is held open."""

    view_rows: int
    """Rows of a namespace that is held in memory, versions included."""
    held_rows: int
    """Rows of all of them together."""
    open_tables: int


class OpenTables:
    """Opens tables at their first use; the least used give way."""

    def __init__(self, root: Location, embedder: CachedEmbedder | None, limits: Limits, writer: Callable[[NamespaceTable], Writer]) -> None:
        self.embedder = embedder
        self._root = root
        self._limits = limits
        self._writer = writer
        self._connections: dict[str, asyncio.Task[Any]] = {}
        self._held = Held()
        self._open: OrderedDict[Namespace, OpenTable] = OrderedDict()
        self._fills: dict[Namespace, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def held_rows(self) -> int:
        """How many rows all views hold now."""
        return self._held.rows

    async def attach(self, embedder: CachedEmbedder) -> None:
        """Use another embedder; returns when texts stored without a vector have theirs."""
        self.embedder = embedder
        for opened in self._open.values():
            opened.table.reset(Space(embedder.id, embedder.dimension))
        await asyncio.gather(*(fill_vectors(opened.table, embedder) for opened in self._open.values()))

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

    async def get(self, namespace: Namespace) -> OpenTable:
        """The table of a namespace, opened if need be, whether it was ever written or not."""
        opened = self._open.get(namespace)
        if opened is None:
            folder = tenant_folder(self._root, namespace.tenant)
            space = Space(self.embedder.id, self.embedder.dimension) if self.embedder else Space()
            location = folder / f"{table_name(namespace)}.lance"
            table = NamespaceTable(
                location, partial(self.connection, folder), canonical(namespace), space, self._limits.view_rows, self._held
            )
            opened = self._open[namespace] = OpenTable(table, self._writer(table))
            self._fill(namespace, opened)
        self._open.move_to_end(namespace)
        self._trim()
        return opened

    def _trim(self) -> None:
        """Let the least used views go while all together are too large, and the least used tables while they are too many."""
        if self._held.rows > self._limits.held_rows:
            for opened in list(self._open.values())[:-1]:
                opened.table.forget_view()
                if self._held.rows <= self._limits.held_rows:
                    break
        spare = len(self._open) - self._limits.open_tables
        if spare > 0:
            for namespace, opened in list(self._open.items())[:-1]:
                if spare and opened.writer.idle and namespace not in self._fills:
                    opened.table.detach()
                    del self._open[namespace]
                    spare -= 1

    def _fill(self, namespace: Namespace, opened: OpenTable) -> None:
        if self.embedder is not None and namespace not in self._fills:
            task = asyncio.create_task(fill_vectors(opened.table, self.embedder), name=f"vectors of {namespace}")
            self._fills[namespace] = task
            task.add_done_callback(lambda _: self._fills.pop(namespace, None))

    def fill_again(self, namespace: Namespace, opened: OpenTable) -> None:
        """As `_fill`; where it goes on already it may have looked before this write, so once more after it."""
        if (task := self._fills.get(namespace)) is None:
            self._fill(namespace, opened)
        else:
            task.add_done_callback(lambda done: None if done.cancelled() else self._fill(namespace, opened))

    async def connection(self, folder: Location) -> Any:
        """LanceDB's connection to a tenant's database."""
        if folder.name not in self._connections:
            self._connections[folder.name] = asyncio.create_task(_connect(folder))
        return await asyncio.shield(self._connections[folder.name])


async def _connect(folder: Location) -> Any:
    """LanceDB's connection. The import takes a second, so it happens in a thread, with the first table."""
    lancedb = await asyncio.to_thread(importlib.import_module, "lancedb")
    session = lancedb.Session(index_cache_size_bytes=CACHE_BYTES, metadata_cache_size_bytes=CACHE_BYTES)
    return await lancedb.connect_async(
        folder.uri, read_consistency_interval=timedelta(0), session=session, storage_options=folder.storage_options
    )
