"""Adds, updates and deletes pairs of memories for ever and prints each operation after its acknowledgement."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Literal

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.memory import MemoryWrite, Namespace

Op = Literal["add", "update", "delete"]
HALVES = ("left", "right")


async def main(root: str, writer: str, storage_options: dict[str, str]) -> None:
    """Several lanes at once, so that batches share commits; other processes write to the same namespace."""
    store = LanceMemoryStore(root, HashEmbedder(8), storage_options=storage_options)

    async def write(name: str, op: Op) -> None:
        text = "" if op == "delete" else f"{name} {op}"
        await store.apply(Namespace.parse("user/42"), [MemoryWrite(op=op, id=f"{name}-{half}", text=text) for half in HALVES])
        print(op, name, flush=True)

    async def lane(number: int) -> None:
        i = 0
        while True:
            name = f"{writer}-{number}-{i}"
            await write(name, "add")
            if i % 2:
                await write(name, "update")
            if i % 3 == 0:
                await write(name, "delete")
            i += 1

    await asyncio.gather(*(lane(number) for number in range(3)))


asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
