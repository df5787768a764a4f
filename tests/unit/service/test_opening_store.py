"""A store that is opened in the background: who waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from memory_store.store import LanceMemoryStore
from recollect.errors import EmbedderError
from recollect.memory import MemoryWrite, Namespace
from recollect.stores import LocalStore
from server.service.store import OpeningStore

SPACE = Namespace(parts=(("user", "ada"),))


async def test_opened_waits_until_the_store_is_open(tmp_path: Path) -> None:
    may_open = asyncio.Event()

    async def open_store() -> LocalStore:
        await may_open.wait()
        return LanceMemoryStore(str(tmp_path), None)

    store = OpeningStore(open_store)
    waiting = asyncio.create_task(store.opened())
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done

    may_open.set()
    await waiting
    await store.apply(SPACE, [MemoryWrite(op="add", id="m1", text="Rex is a dog.")])
    assert [record.text for record in await store.list(SPACE)] == ["Rex is a dog."]
    await store.close()


async def test_opened_ends_too_when_opening_failed() -> None:
    async def open_store() -> LocalStore:
        raise EmbedderError("the endpoint does not answer")

    store = OpeningStore(open_store)
    await store.opened()

    assert isinstance(store.failure, EmbedderError)
    with pytest.raises(EmbedderError):
        await store.seq(SPACE)
