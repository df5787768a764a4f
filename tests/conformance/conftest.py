"""The stores under test, by level; `stores.py` lists them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memory_store.location import Location
from recollect.stores import BaseStore, LocalStore, MemoryStore
from tests.conformance.object_storage import bucket, object_storage
from tests.conformance.stores import BASE, FORKABLE, LOCAL, Places, Running, running

__all__ = ["bucket", "object_storage"]


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One for all tests: to start it for each of them would take longer than the tests."""
    async with running(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def places(tmp_path: Path, server: Running, bucket: Location) -> Places:
    return Places(tmp_path / "store", server, bucket)


@pytest.fixture(params=BASE)
async def store(request: pytest.FixtureRequest, places: Places) -> AsyncIterator[BaseStore]:
    """The base level: what every store does."""
    async with BASE[request.param](places) as opened:
        yield opened


@pytest.fixture(params=FORKABLE)
async def forkable(request: pytest.FixtureRequest, places: Places) -> AsyncIterator[MemoryStore]:
    """The local level: stores of this process."""
    async with FORKABLE[request.param](places) as opened:
        yield opened


@pytest.fixture(params=LOCAL)
async def local(request: pytest.FixtureRequest, places: Places) -> AsyncIterator[LocalStore]:
    """The local level: stores with files."""
    async with LOCAL[request.param](places) as opened:
        yield opened
