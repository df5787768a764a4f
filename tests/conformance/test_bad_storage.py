"""Damage outside of the store's hands is told clearly, and loses nothing else."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lance
import pytest

from memory_store import writer
from memory_store.embedders.hash import HashEmbedder
from memory_store.location import lock_of
from memory_store.naming import table_name
from memory_store.store import LanceMemoryStore
from recollect.errors import ConfigurationError, RecollectError
from recollect.memory import MemoryWrite, Namespace

NS, OTHER = Namespace.parse("user/42"), Namespace.parse("user/43")


def _add(memory_id: str) -> MemoryWrite:
    return MemoryWrite(op="add", id=memory_id, text=f"the text of {memory_id}")


def _folder(root: Path) -> Path:
    return root / NS.tenant / f"{table_name(NS)}.lance"


async def test_a_removed_folder_is_an_error_and_not_an_empty_namespace(tmp_path: Path) -> None:
    store = LanceMemoryStore(tmp_path, HashEmbedder())
    try:
        await store.apply(NS, [_add("a")])
        await store.apply(OTHER, [_add("b")])
        aside = tmp_path / "aside"
        shutil.move(_folder(tmp_path), aside)
        for attempt in (lambda: store.list(NS), lambda: store.search(NS, "text"), lambda: store.apply(NS, [_add("c")])):
            with pytest.raises(RecollectError, match="put it back") as caught:
                await attempt()
            assert caught.value.code == "memories_lost"
        assert [record.id for record in await store.list(OTHER)] == ["b"]
        shutil.move(aside, _folder(tmp_path))
        assert [record.id for record in await store.list(NS)] == ["a"]
        assert (await store.apply(NS, [_add("c")])).seq == 2
        shutil.rmtree(_folder(tmp_path))
        lock_of(_folder(tmp_path)).unlink()
        assert await store.list(NS) == []
    finally:
        await store.close()


async def test_an_emptied_folder_is_no_empty_namespace(tmp_path: Path) -> None:
    store = LanceMemoryStore(tmp_path, HashEmbedder())
    try:
        await store.apply(NS, [_add("a")])
        shutil.rmtree(_folder(tmp_path) / "_versions")
        again = LanceMemoryStore(tmp_path, HashEmbedder())
        with pytest.raises(RecollectError, match="emptied"):
            await again.list(NS)
        await again.close()
    finally:
        await store.close()


async def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    store = LanceMemoryStore(tmp_path, HashEmbedder())
    await store.apply(NS, [_add("a")])
    await store.close()
    lance.dataset(_folder(tmp_path)).update_schema_metadata({"schema": "99"})
    again = LanceMemoryStore(tmp_path, HashEmbedder())
    try:
        for attempt in (again.list(NS), again.apply(NS, [_add("b")])):
            with pytest.raises(ConfigurationError, match="newer Recollect"):
                await attempt
        assert (await again.apply(OTHER, [_add("b")])).seq == 1
    finally:
        await again.close()
    assert lance.dataset(_folder(tmp_path)).count_rows() == 1


async def test_a_store_of_the_first_version_is_brought_to_this_one(tmp_path: Path) -> None:
    store = LanceMemoryStore(tmp_path, HashEmbedder())
    await store.apply(NS, [_add("a")])
    await store.close()
    dataset = lance.dataset(_folder(tmp_path))
    dataset.drop_columns(["tags", "importance", "session", "born"])
    dataset.update_schema_metadata({"namespace": str(NS), "embedder": "hash-256"}, replace=True)
    again = LanceMemoryStore(tmp_path, HashEmbedder())
    try:
        await again.apply(NS, [MemoryWrite(op="add", id="b", text="a tagged text", tags=("new",))])
        assert [(record.id, record.tags) for record in await again.list(NS)] == [("b", ("new",)), ("a", ())]
        assert {hit.record.id for hit in await again.search(NS, "text", mode="dense")} == {"a", "b"}
    finally:
        await again.close()


async def test_a_clock_that_goes_backwards_changes_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Backwards(datetime):
        """Every look at the clock shows an earlier day."""

        seen = datetime(2026, 5, 1, tzinfo=UTC)

        @classmethod
        def now(cls, tz: object = None) -> datetime:  # pyright: ignore[reportIncompatibleMethodOverride]
            cls.seen -= timedelta(days=1)
            return cls.seen

    monkeypatch.setattr(writer, "datetime", Backwards)
    store = LanceMemoryStore(tmp_path, HashEmbedder())
    try:
        for number in range(5):
            assert (await store.apply(NS, [_add(f"m{number}")])).seq == number + 1
        await store.apply(NS, [MemoryWrite(op="update", id="m0", text="a later text")])
        assert [record.id for record in await store.list(NS)] == ["m0", "m4", "m3", "m2", "m1"]
        assert [version.text for version in await store.history(NS, "m0")] == ["the text of m0", "a later text"]
        assert len(await store.list(NS, as_of=3)) == 3
    finally:
        await store.close()
