"""What is erased is gone from the files, for every `seq` and for every process, and the rest is as it was."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from memory_store.embedders.hash import HashEmbedder
from memory_store.erase import remains
from memory_store.rows import new_row
from memory_store.store import LanceMemoryStore
from recollect.errors import RecollectError
from recollect.memory import MemoryRecord, MemoryWrite, Namespace, Provenance

HOME = Namespace(parts=(("user", "ada"),))
CANARY = "the canary sings at dawn in Kelbo"


def _add(memory_id: str, text: str, session: str = "s") -> MemoryWrite:
    return MemoryWrite(op="add", id=memory_id, text=text, metadata={"m": f"about {text}"}, provenance=Provenance(session=session))


def _chosen(record: MemoryRecord) -> bool:
    return record.id == "canary"


async def _filled(root: Path, view_rows: int = 1000) -> LanceMemoryStore:
    store = LanceMemoryStore(root, HashEmbedder(), view_rows=view_rows)
    for number in range(12):
        await store.apply(HOME, [_add(f"m{number}", f"memory number {number} of the zebra")])
    await store.apply(HOME, [_add("canary", CANARY), _add("m12", "a memory of the same commit")])
    await store.apply(HOME, [MemoryWrite(op="update", id="canary", text=f"{CANARY}, and at dusk")])
    return store


def _bytes(root: Path) -> bytes:
    return b"".join(file.read_bytes() for file in root.rglob("*") if file.is_file())


def _tables(root: Path) -> list[Path]:
    return list(root.glob("*/*"))


@pytest.mark.parametrize("view_rows", [1000, 3], ids=["in memory", "inside LanceDB, with an index"])
async def test_an_erased_memory_is_in_no_answer_and_in_no_file(tmp_path: Path, view_rows: int) -> None:
    store = await _filled(tmp_path, view_rows)
    other = LanceMemoryStore(tmp_path, HashEmbedder(), view_rows=view_rows)
    try:
        assert any(hit.record.id == "canary" for hit in await store.search(HOME, "canary dawn"))
        assert len(await other.history(HOME, "canary")) == 2
        seq = await store.seq(HOME)
        erased = await store.erase(HOME, _chosen)
        assert [record.text for record in erased if record.text] == [CANARY, f"{CANARY}, and at dusk"]
        for reader in (store, other):
            assert await reader.get(HOME, "canary") is None
            assert await reader.history(HOME, "canary") == []
            assert await reader.get(HOME, "canary", as_of=seq) is None
            assert "canary" not in {hit.record.id for hit in await reader.search(HOME, "canary dawn")}
            assert len(await reader.list(HOME)) == 13
            assert await reader.seq(HOME) == seq + 1
        content = _bytes(tmp_path)
        assert b"canary" not in content
        assert erased[0].content_hash.encode() not in content
        again = await store.apply(HOME, [_add("canary", "a new memory under the old id")])
        assert again.seq == seq + 2
    finally:
        await store.close()
        await other.close()


async def test_a_remainder_is_found_in_decoded_pages_even_where_the_bytes_are_compressed(tmp_path: Path) -> None:
    store = await _filled(tmp_path)
    await store.close()
    [path] = [table for table in _tables(tmp_path) if table.suffix == ".lance"]
    record = await _one(tmp_path)
    assert remains(path, [new_row(record, 0)]) != []


async def _one(root: Path) -> MemoryRecord:
    store = LanceMemoryStore(root, HashEmbedder())
    try:
        record = await store.get(HOME, "canary")
        assert record is not None
        return record
    finally:
        await store.close()


async def test_what_another_memory_says_too_does_not_keep_the_erasure_from_being_proved(tmp_path: Path) -> None:
    store = await _filled(tmp_path)
    try:
        await store.apply(HOME, [_add("twin", f"{CANARY}, and at dusk"), _add("canary-2", CANARY)])
        assert len(await store.erase(HOME, _chosen)) == 2
        assert await store.get(HOME, "twin") is not None
    finally:
        await store.close()


async def test_writes_during_an_erasure_wait_and_are_kept(tmp_path: Path) -> None:
    store = await _filled(tmp_path)
    try:
        erasing = asyncio.create_task(store.erase(HOME, _chosen))
        applied = await asyncio.gather(*(store.apply(HOME, [_add(f"n{i}", f"new memory {i}")]) for i in range(8)))
        await erasing
        assert sorted({a.seq for a in applied})[-1] == await store.seq(HOME)
        assert len(await store.list(HOME)) == 13 + 8
    finally:
        await store.close()


async def test_a_dropped_namespace_leaves_nothing_and_can_begin_anew(tmp_path: Path) -> None:
    store = await _filled(tmp_path)
    try:
        assert len(await store.drop(HOME)) == 15
        assert b"zebra" not in _bytes(tmp_path)
        assert _tables(tmp_path) == []
        assert await store.namespaces(HOME.tenant) == []
        assert await store.search(HOME, "zebra") == []
        assert (await store.apply(HOME, [_add("m0", "begun anew")])).seq == 1
        assert [record.text for record in await store.list(HOME)] == ["begun anew"]
    finally:
        await store.close()


async def test_another_store_that_held_a_dropped_namespace_sees_the_new_one(tmp_path: Path) -> None:
    store, other = await _filled(tmp_path), LanceMemoryStore(tmp_path, HashEmbedder())
    try:
        assert len(await other.list(HOME)) == 14
        await store.drop(HOME)
        assert await other.list(HOME) == []
        for number in range(15):
            await store.apply(HOME, [_add(f"m{number}", "begun anew")])
        assert {record.text for record in await other.list(HOME)} == {"begun anew"}
        assert (await other.apply(HOME, [_add("mine", "by the other")])).seq == 16
        assert len(await store.list(HOME)) == 16
    finally:
        await store.close()
        await other.close()


async def test_what_is_written_while_a_namespace_is_dropped_is_in_the_new_one(tmp_path: Path) -> None:
    store = await _filled(tmp_path)
    try:
        dropping = asyncio.create_task(store.drop(HOME))
        await asyncio.sleep(0)
        applied = await asyncio.gather(*(store.apply(HOME, [_add(f"n{i}", f"new memory {i}")]) for i in range(8)))
        erased = {record.id for record in await dropping}
        kept = {record.id for record in await store.list(HOME)}
        assert {f"n{i}" for i in range(8)} == (kept | erased) & {f"n{i}" for i in range(8)}
        assert not any(name.startswith("m") for name in kept)
        assert all(record is not None for one in applied for record in one.records)
    finally:
        await store.close()


async def test_erasing_nothing_changes_nothing(tmp_path: Path) -> None:
    store = await _filled(tmp_path)
    try:
        seq = await store.seq(HOME)
        assert await store.erase(HOME, lambda _: False) == []
        assert await store.seq(HOME) == seq
        assert await store.erase(Namespace(parts=(("user", "nobody"),)), lambda _: True) == []
    finally:
        await store.close()


async def test_a_choice_that_fails_is_the_callers_error_and_the_store_goes_on(tmp_path: Path) -> None:
    def broken(_: MemoryRecord) -> bool:
        raise RecollectError("no choice")

    store = await _filled(tmp_path)
    try:
        with pytest.raises(RecollectError, match="no choice"):
            await store.erase(HOME, broken)
        await store.apply(HOME, [_add("later", "still writable")])
    finally:
        await store.close()


async def test_what_killed_processes_left_is_swept_away_and_the_rest_stays(tmp_path: Path) -> None:
    store = await _filled(tmp_path)
    try:
        folder = tmp_path / HOME.tenant
        for name in ("never-committed.lance", ".abc.dropped"):
            (folder / name / "data").mkdir(parents=True)
            (folder / name / "data" / "rest").write_text(CANARY)
        await store.sweep(HOME.tenant)
        assert len([path for path in folder.iterdir() if path.is_dir()]) == 1
        assert len(await store.list(HOME)) == 14
    finally:
        await store.close()
