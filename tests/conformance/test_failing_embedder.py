"""A failing embedder loses no write: texts are stored, found by their words at once, and by their meaning later."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from memory_store import fill
from memory_store.embedders.base import Vectors
from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.errors import EmbedderError
from recollect.memory import MemoryWrite, Namespace

HOME = Namespace(parts=(("user", "ada"),))


class FailingEmbedder(HashEmbedder):
    """Fails while `broken`."""

    broken = True

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if self.broken:
            raise EmbedderError("the embeddings endpoint answered 500")
        return await super().embed(texts)


def _add(number: int) -> MemoryWrite:
    return MemoryWrite(op="add", id=f"m{number}", text=f"memory {number} of the zebra")


async def _found(store: LanceMemoryStore, seconds: float = 20.0) -> set[str]:
    """The ids that a dense search finds, once it finds all three."""
    async with asyncio.timeout(seconds):
        while True:
            found = {hit.record.id for hit in await store.search(HOME, "zebra", mode="dense")}
            if len(found) == 3:
                return found
            await asyncio.sleep(0.02)


async def test_what_was_written_while_it_failed_is_embedded_when_it_works_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "PAUSE_S", 0.05)
    embedder = FailingEmbedder()
    store = LanceMemoryStore(tmp_path, embedder)
    try:
        for number in range(3):
            await store.apply(HOME, [_add(number)])
        assert len(await store.search(HOME, "zebra", mode="text")) == 3
        assert (await store.stats(HOME)).without_vector == 3
        with pytest.raises(EmbedderError, match="answered 500"):
            await store.search(HOME, "zebra")
        embedder.broken = False
        assert await _found(store) == {"m0", "m1", "m2"}
        assert await store.seq(HOME) == 3
        assert (await store.stats(HOME)).without_vector == 0
    finally:
        await store.close()


async def test_what_still_has_no_vector_gets_it_after_a_restart(tmp_path: Path) -> None:
    embedder = FailingEmbedder()
    store = LanceMemoryStore(tmp_path, embedder)
    await store.apply(HOME, [_add(number) for number in range(3)])
    await store.close()
    embedder.broken = False
    again = LanceMemoryStore(tmp_path, embedder)
    try:
        assert await _found(again) == {"m0", "m1", "m2"}
    finally:
        await again.close()
