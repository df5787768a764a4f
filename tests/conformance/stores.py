"""Every implementation of a store, by the level that it keeps: what is added here is held to all tests of its level."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from clients.client import RecollectClient
from clients.remote_memory import RemoteMemory
from memory_store.embedders.hash import HashEmbedder
from memory_store.location import Location
from memory_store.store import VIEW_ROWS, LanceMemoryStore
from recollect.stores import BaseStore, LocalStore, MemoryStore
from tests.api.live import listening
from tests.conformance.writes import NS

S = TypeVar("S")


@dataclass(frozen=True)
class Running:
    """The application on a socket of this process, and its store."""

    url: str
    store: LocalStore


@dataclass(frozen=True)
class Places:
    """Where stores may be: a folder and a bucket of the test's own, and a server that all tests share."""

    folder: Path
    server: Running
    bucket: Location


Opened = Callable[[Places], AbstractAsyncContextManager[S]]


@asynccontextmanager
async def in_memory(places: Places) -> AsyncGenerator[LanceMemoryStore]:
    """A namespace is held in memory."""
    store = LanceMemoryStore(places.folder, HashEmbedder(), view_rows=VIEW_ROWS)
    yield store
    await store.close()


@asynccontextmanager
async def in_lancedb(places: Places) -> AsyncGenerator[LanceMemoryStore]:
    """No namespace is small enough to be held in memory."""
    store = LanceMemoryStore(places.folder, HashEmbedder(), view_rows=0)
    yield store
    await store.close()


@asynccontextmanager
async def in_object_storage(places: Places) -> AsyncGenerator[LanceMemoryStore]:
    """S3, as moto speaks it."""
    store = LanceMemoryStore(places.bucket.uri, HashEmbedder(), storage_options=places.bucket.storage_options)
    yield store
    await store.close()


@asynccontextmanager
async def fork(places: Places) -> AsyncGenerator[MemoryStore]:
    async with in_memory(places) as main:
        yield await main.fork(NS)


@asynccontextmanager
async def fork_of_a_fork(places: Places) -> AsyncGenerator[MemoryStore]:
    async with fork(places) as parent:
        yield await parent.fork(NS)


@asynccontextmanager
async def over_http(places: Places) -> AsyncGenerator[RemoteMemory]:
    """A client of the server; afterwards its namespace is as if it was never written."""
    remote = RemoteMemory(RecollectClient(places.server.url))
    yield remote
    await remote.close()
    await places.server.store.drop(NS)


@asynccontextmanager
async def running(folder: Path) -> AsyncGenerator[Running]:
    """The application with a store of its own."""
    store = LanceMemoryStore(folder / "memory", HashEmbedder())
    async with listening(folder / "home", None, store) as served:
        yield Running(str(served.http.base_url), store)


LOCAL: Mapping[str, Opened[LocalStore]] = {"in memory": in_memory, "in LanceDB": in_lancedb}
FORKABLE: Mapping[str, Opened[MemoryStore]] = {
    **LOCAL,
    "in object storage": in_object_storage,
    "fork": fork,
    "fork of a fork": fork_of_a_fork,
}
BASE: Mapping[str, Opened[BaseStore]] = {**FORKABLE, "over HTTP": over_http}
