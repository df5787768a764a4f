"""The audit of a real store: small namespaces and those too large for a view, changed and deleted memories, no vectors."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.audit import AuditOptions
from recollect.memory import MemoryWrite, Namespace

ADA = Namespace(parts=(("user", "ada"),))


async def filled(store: LanceMemoryStore) -> None:
    texts = ("Ada has a green garden behind her house", "Ada has a green garden behind her house too", "Bo", "bo", "Ada lives in Rome")
    await store.apply(ADA, [MemoryWrite(op="add", id=f"m{i}", text=text) for i, text in enumerate(texts)])
    await store.apply(ADA, [MemoryWrite(op="update", id="m4", text="Ada lives in Oslo")])
    await store.apply(ADA, [MemoryWrite(op="add", id="gone", text="Bo"), MemoryWrite(op="add", id="r", text="Ada lives in Rome")])
    await store.apply(ADA, [MemoryWrite(op="delete", id="gone")])


@pytest.mark.parametrize("view_rows", [1, 10_000])
async def test_current_memories_are_compared_and_all_versions_counted(tmp_path: Path, view_rows: int) -> None:
    store = LanceMemoryStore(tmp_path, HashEmbedder(), view_rows=view_rows)
    try:
        assert (await store.audit(ADA)).memories == 0
        await filled(store)
        steps: list[str] = []
        found = await store.audit(ADA, AuditOptions(cosine=0.8), lambda part, done, total: steps.append(part))
        assert (found.seq, found.memories, found.without_vector, found.sizes.versions) == (4, 6, 0, 8)
        assert [(group.stays.id, [o.memory.id for o in group.others]) for group in found.exact] == [("m3", ["m2"])]
        assert [(group.stays.id, [o.memory.id for o in group.others]) for group in found.near] == [("m1", ["m0"])]
        assert [(pair.newer.id, pair.older.id) for pair in found.contradictions] == [("r", "m4")]
        assert [(one.memory.id, one.versions) for one in found.sizes.most_versions] == [("m4", 2)]
        assert list(dict.fromkeys(steps)) == ["secrets", "near duplicates", "contradictions"]
        assert store.held_rows <= max(view_rows, 8)
        short = await store.audit(ADA, AuditOptions(cosine=0.8, limit=1))
        assert (len(short.near), short.near_count) == (1, 1)
    finally:
        await store.close()


async def test_an_audit_that_is_given_up_goes_no_further(tmp_path: Path) -> None:
    store = LanceMemoryStore(tmp_path, None)
    try:
        await filled(store)
        begun, go_on, parts = threading.Event(), threading.Event(), list[str]()

        def tell(part: str, done: int, total: int) -> None:
            parts.append(part)
            begun.set()
            go_on.wait(30)

        running = asyncio.create_task(store.audit(ADA, AuditOptions(), tell))
        assert await asyncio.to_thread(begun.wait, 30)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        go_on.set()
        await asyncio.sleep(0.2)
        assert running.cancelled()
        assert parts == ["secrets"]
    finally:
        await store.close()
