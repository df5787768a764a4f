"""A real store in a folder of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LanceMemoryStore]:
    opened = LanceMemoryStore(tmp_path, HashEmbedder())
    yield opened
    await opened.close()
