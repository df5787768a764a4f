"""What holds for the store on disk beyond the protocol: isolation, reopening, several processes, crashes, compaction."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import lance
import pytest

from memory_store import faults
from memory_store.embedders.hash import HashEmbedder
from memory_store.naming import table_name
from memory_store.store import LanceMemoryStore
from recollect.errors import ConfigurationError, InvalidRequest
from recollect.memory import MemoryWrite, Namespace
from tests.conftest import scaled

NS = Namespace.parse("user/42")


def add(memory_id: str, text: str) -> MemoryWrite:
    return MemoryWrite(op="add", id=memory_id, text=text)


def table(root: Path, namespace: Namespace = NS) -> lance.LanceDataset:
    return lance.dataset(root / namespace.tenant / f"{table_name(namespace)}.lance")


@pytest.mark.parametrize("view_rows", [20_000, 0])
async def test_reopening_finds_everything_again(tmp_path: Path, view_rows: int) -> None:
    first = LanceMemoryStore(tmp_path, HashEmbedder(), view_rows=view_rows)
    await first.apply(NS, [add("a", "one red apple"), add("b", "two")])
    await first.apply(NS, [MemoryWrite(op="update", id="a", text="one green apple")])
    await first.close()
    again = LanceMemoryStore(tmp_path, HashEmbedder(), view_rows=view_rows)
    assert await again.seq(NS) == 2
    assert [r.text for r in await again.history(NS, "a")] == ["one red apple", "one green apple"]
    assert [h.record.text for h in await again.search(NS, "apple", mode="text")] == ["one green apple"]
    assert (await again.apply(NS, [add("c", "three")])).seq == 3
    await again.close()


NASTY = (
    "a",
    "A",
    "a ",
    "a/b",
    "a:b",
    "..",
    "../../x",
    "%2e",
    "%25",
    "'; DROP",
    "日本",
    "é",
    "e\u0301",
    "x" * 256,
    "x" * 255 + "y",
    "CON",
    "a.lance",
)


async def test_namespaces_and_tenants_never_see_each_other(tmp_path: Path) -> None:
    store = LanceMemoryStore(tmp_path / "root", HashEmbedder())
    spaces = [Namespace(tenant=tenant, parts=(("user", name),)) for tenant in ("local", "other") for name in NASTY]
    await asyncio.gather(*(store.apply(ns, [add("same", f"secret {i}")]) for i, ns in enumerate(spaces)))
    for i, ns in enumerate(spaces):
        assert [r.text for r in await store.list(ns)] == [f"secret {i}"]
        assert [h.record.text for h in await store.search(ns, "secret")] == [f"secret {i}"]
    for tenant in ("local", "other"):
        assert await store.namespaces(tenant) == sorted((ns for ns in spaces if ns.tenant == tenant), key=str)
    await store.close()
    assert os.listdir(tmp_path) == ["root"]
    assert sorted(os.listdir(tmp_path / "root")) == ["local", "other"]


@pytest.mark.parametrize("tenant", ["", "..", "../x", "A", "a/b", "x" * 64])
async def test_what_is_no_tenant_is_refused(tmp_path: Path, tenant: str) -> None:
    store = LanceMemoryStore(tmp_path, None)
    with pytest.raises(InvalidRequest):
        await store.apply(Namespace(tenant=tenant), [add("a", "x")])
    with pytest.raises(InvalidRequest):
        await store.namespaces(tenant)


async def test_two_stores_on_one_home_see_each_others_commits_at_once(tmp_path: Path) -> None:
    stores = [LanceMemoryStore(tmp_path, HashEmbedder()) for _ in range(2)]
    for i in range(10):
        applied = await stores[i % 2].apply(NS, [add(f"m{i}", f"message {i}")])
        other = stores[1 - i % 2]
        assert applied.seq == await other.seq(NS) == i + 1
        assert (await other.search(NS, f"message {i}", limit=1))[0].record.id == f"m{i}"
    for store in stores:
        await store.close()


@pytest.mark.parametrize("view_rows", [20_000, 0])
async def test_two_stores_that_write_at_once_share_one_sequence(tmp_path: Path, view_rows: int) -> None:
    stores = [LanceMemoryStore(tmp_path, HashEmbedder(8), view_rows=view_rows) for _ in range(2)]
    await stores[0].apply(NS, [add("hot", "start")])

    async def hammer(number: int) -> list[int]:
        seqs = []
        for i in range(scaled(15)):
            writes = [add(f"w{number}-{i}", "x"), MemoryWrite(op="update", id="hot", text=f"{number}-{i}")]
            seqs.append((await stores[number].apply(NS, writes)).seq)
        return seqs

    seqs = sorted(seq for lane in await asyncio.gather(hammer(0), hammer(1)) for seq in lane)
    assert seqs == list(range(2, 2 + 2 * scaled(15)))
    for store in stores:
        history = await store.history(NS, "hot")
        assert [r.seq_from for r in history] == [1, *seqs]
        assert [r.seq_to for r in history] == [*seqs, None]
        assert len(await store.list(NS, limit=10_000)) == len(seqs) + 1
        await store.close()
    keys = table(tmp_path).to_table(columns=["key"])["key"].to_pylist()
    assert len(keys) == len(set(keys))


async def test_many_single_writes_leave_few_fragments_and_superseded_versions_survive(tmp_path: Path) -> None:
    store = LanceMemoryStore(tmp_path, HashEmbedder(8), keep_versions=timedelta(0))
    most = 0
    for i in range(scaled(150)):
        await store.apply(NS, [MemoryWrite(op="update" if i else "add", id="a", text=f"value {i}")])
        if i % 10 == 0:
            most = max(most, len(table(tmp_path).get_fragments()))
    assert most <= 100
    await store.close()
    assert len(table(tmp_path).get_fragments()) <= 2
    again = LanceMemoryStore(tmp_path, HashEmbedder(8))
    assert [r.text for r in await again.history(NS, "a")] == [f"value {i}" for i in range(scaled(150))]
    old = await again.get(NS, "a", as_of=7)
    assert old is not None
    assert old.text == "value 6"
    await again.close()


async def test_another_embedder_is_refused_and_both_are_named(tmp_path: Path) -> None:
    first = LanceMemoryStore(tmp_path, HashEmbedder(64))
    await first.apply(NS, [add("a", "one")])
    await first.close()
    other = LanceMemoryStore(tmp_path, HashEmbedder(32))
    for attempt in (other.search(NS, "one"), other.apply(NS, [add("b", "two")]), other.fork(NS)):
        with pytest.raises(ConfigurationError, match=r"hash-64 .*hash-32 .*memory reembed"):
            await attempt
    await other.close()


async def test_an_embedder_that_comes_later_gives_vectors_to_what_was_stored_before(tmp_path: Path) -> None:
    store = LanceMemoryStore(tmp_path, None)
    await store.apply(NS, [add("a", "a red bicycle"), add("b", "a blue car")])
    with pytest.raises(InvalidRequest, match="no embedder"):
        await store.search(NS, "bicycle", mode="dense")
    assert set((await store.search(NS, "bicycle"))[0].parts) == {"text"}
    writes = (store.apply(NS, [add(f"c{i}", f"a green bicycle {i}")]) for i in range(5))
    await asyncio.gather(store.attach(HashEmbedder()), *writes)
    assert (await store.apply(NS, [add("d", "a grey bicycle")])).seq == 7
    await store.attach(HashEmbedder())
    assert len(await store.search(NS, "bicycle", mode="dense")) == 8
    assert set((await store.search(NS, "red bicycle"))[0].parts) == {"dense", "text"}
    await store.close()
    again = LanceMemoryStore(tmp_path, HashEmbedder())
    assert len(await again.search(NS, "bicycle", mode="dense")) == 8
    assert await again.seq(NS) == 7
    await again.close()


async def test_without_its_embedder_a_table_still_takes_writes_and_text_searches(tmp_path: Path) -> None:
    first = LanceMemoryStore(tmp_path, HashEmbedder())
    await first.apply(NS, [add("a", "a red bicycle")])
    await first.close()
    blind = LanceMemoryStore(tmp_path, None)
    await blind.apply(NS, [add("b", "a blue bicycle"), MemoryWrite(op="update", id="a", text="a red tandem bicycle")])
    assert {h.record.id for h in await blind.search(NS, "bicycle")} == {"a", "b"}
    await blind.close()


async def test_views_of_many_namespaces_stay_within_their_bound(tmp_path: Path) -> None:
    store = LanceMemoryStore(tmp_path, None, held_rows=30)
    spaces = [Namespace.parse(f"user/{i}") for i in range(8)]
    for ns in spaces:
        await store.apply(ns, [add(f"m{i}", f"text {i}") for i in range(10)])
    for ns in spaces:
        assert len(await store.search(ns, "text", limit=50)) == 10
        assert store.held_rows <= 40
    await store.close()


async def test_tables_that_nobody_uses_are_closed_and_opened_again(tmp_path: Path) -> None:
    store = LanceMemoryStore(tmp_path, HashEmbedder(8), open_tables=3, idle_s=0.01, keep_versions=timedelta(0))
    spaces = [Namespace.parse(f"user/{i}") for i in range(10)]
    for ns in spaces:
        await store.apply(ns, [add(f"m{i}", f"text {i}") for i in range(10)])
    async with asyncio.timeout(20):
        while store.open_tables > 3:
            await asyncio.sleep(0.1)
            await store.list(spaces[0])
    for _ in range(2):
        for ns in spaces:
            assert len(await store.list(ns, limit=50)) == 10
    assert store.open_tables <= 3
    assert store.held_rows <= 30
    await store.close()


async def test_a_full_disk_is_named_and_the_store_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from memory_store import disk
    from recollect.errors import StorageFull

    store = LanceMemoryStore(tmp_path, HashEmbedder())
    await store.apply(NS, [add("a", "one")])

    def full(*_: object) -> object:
        raise faults.translated(OSError("LanceError(IO): No space left on device (os error 28)"), "the memory store")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "commit", full)
        with pytest.raises(StorageFull, match="Free some"):
            await store.apply(NS, [add("b", "two")])
    assert (await store.apply(NS, [add("b", "two")])).seq == 2
    await store.close()
