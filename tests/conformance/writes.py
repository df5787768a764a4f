"""Writes, by their shortest names, and what the tests of all stores have in common."""

from __future__ import annotations

from recollect.memory import MemoryWrite, Namespace, Provenance, SearchMode
from recollect.stores import BaseStore

NS = Namespace.parse("user/42:agent/coach")
MODES: tuple[SearchMode, ...] = ("hybrid", "dense", "text")


def add(memory_id: str, text: str, **fields: object) -> MemoryWrite:
    return MemoryWrite.model_validate({"op": "add", "id": memory_id, "text": text, **fields})


def update(memory_id: str, text: str, **fields: object) -> MemoryWrite:
    return MemoryWrite.model_validate({"op": "update", "id": memory_id, "text": text, **fields})


def delete(memory_id: str, if_seq: int | None = None) -> MemoryWrite:
    return MemoryWrite(op="delete", id=memory_id, if_seq=if_seq)


def turn(memory_id: str, session: str, text: str = "", **fields: object) -> MemoryWrite:
    """An episodic memory of a session."""
    return add(memory_id, text or f"turn {memory_id}", kind="episodic", provenance=Provenance(session=session), **fields)


async def texts(store: BaseStore, as_of: int | None = None) -> list[str]:
    return [record.text for record in await store.list(NS, as_of=as_of)]
