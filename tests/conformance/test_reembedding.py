"""Vectors of another embedder are made anew while the store is used, and what is left undone is gone on with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from memory_store import fill
from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.errors import ConfigurationError, InvalidRequest
from recollect.memory import MemoryWrite, Namespace

NS = Namespace.parse("user/42")


async def _filled(root: Path) -> None:
    store = LanceMemoryStore(root, HashEmbedder(64))
    await store.apply(NS, [MemoryWrite(op="add", id=f"m{number}", text=f"memory {number} of the zebra") for number in range(20)])
    await store.apply(NS, [MemoryWrite(op="update", id="m0", text="a newer text")])
    await store.close()


async def _until_done(store: LanceMemoryStore) -> None:
    async with asyncio.timeout(20):
        while True:
            if not (await store.stats(NS)).without_vector:
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("view_rows", [1000, 0], ids=["in memory", "inside LanceDB"])
async def test_a_store_goes_on_with_another_embedder(tmp_path: Path, view_rows: int) -> None:
    await _filled(tmp_path)
    store = LanceMemoryStore(tmp_path, HashEmbedder(32), view_rows=view_rows)
    try:
        with pytest.raises(ConfigurationError, match="memory reembed"):
            await store.search(NS, "zebra")
        assert await store.reembed(NS) == 20
        assert len(await store.search(NS, "zebra", mode="text", limit=50)) == 19
        await store.apply(NS, [MemoryWrite(op="add", id="new", text="a zebra of today")])
        await _until_done(store)
        assert len(await store.search(NS, "zebra", mode="dense", limit=50)) == 21
        assert len(await store.search(NS, "zebra", mode="dense", limit=50, as_of=1)) == 20
        assert [version.seq_from for version in await store.history(NS, "m0")] == [1, 2]
        assert await store.seq(NS) == 3
        assert await store.reembed(NS) == 0
    finally:
        await store.close()


async def test_what_was_left_undone_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "BATCH", 1)
    await _filled(tmp_path)
    store = LanceMemoryStore(tmp_path, HashEmbedder(32))
    assert await store.reembed(NS) == 20
    await store.close()
    again = LanceMemoryStore(tmp_path, HashEmbedder(32))
    try:
        assert await again.reembed(NS) > 0
        await _until_done(again)
        assert len(await again.search(NS, "zebra", mode="dense", limit=50)) == 20
    finally:
        await again.close()


async def test_without_an_embedder_there_is_nothing_to_make_vectors_with(tmp_path: Path) -> None:
    await _filled(tmp_path)
    store = LanceMemoryStore(tmp_path, None)
    try:
        with pytest.raises(InvalidRequest, match=r"embedder\.kind"):
            await store.reembed(NS)
    finally:
        await store.close()


async def test_a_namespace_never_written_needs_none(tmp_path: Path) -> None:
    store = LanceMemoryStore(tmp_path, HashEmbedder(32))
    try:
        assert await store.reembed(NS) == 0
        assert await store.namespaces("local") == []
    finally:
        await store.close()
