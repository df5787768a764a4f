"""Writes pairs of memories for ever and prints the name of each pair after its acknowledgement."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.memory import MemoryWrite, Namespace


async def main(root: Path, round_: str) -> None:
    """Several writers at once, so that batches share commits."""
    store = LanceMemoryStore(root, HashEmbedder(8))

    async def write(lane: int) -> None:
        i = 0
        while True:
            name = f"r{round_}-{lane}-{i}"
            halves = [MemoryWrite(op="add", id=f"{name}-{half}", text=f"{name} {half}") for half in ("left", "right")]
            await store.apply(Namespace.parse("user/42"), halves)
            print(name, flush=True)
            i += 1

    await asyncio.gather(*(write(lane) for lane in range(3)))


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
