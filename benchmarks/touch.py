"""`python -m benchmarks.touch ROOT COUNT`: open a store of namespaces 0 to COUNT - 1, search in all of them, and print what it took."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from rich.progress import track

from benchmarks.given import GivenEmbedder
from benchmarks.load import STDERR, namespace
from benchmarks.rows import queries, rows
from benchmarks.watch import resident
from memory_store.store import LanceMemoryStore
from recollect.memory import LOCAL_TENANT

HOT = 200
"""The last ones that were touched are asked again, as many as this."""


async def touch(root: Path, count: int) -> dict[str, object]:
    """Seconds of listing, of each cold and hot hybrid search, and resident bytes before and after. Importing Lance is not counted."""
    asked = queries(rows(100), count)
    embedder = GivenEmbedder()
    embedder.ask(asked)
    store = LanceMemoryStore(root, embedder)
    opened = resident()
    began = time.perf_counter()
    listed = len(await store.namespaces(LOCAL_TENANT))
    listing = time.perf_counter() - began
    if listed != count:
        raise RuntimeError(f"{listed} namespaces are listed, not {count}")

    async def search(place: int) -> float:
        began = time.perf_counter()
        await store.search(namespace(str(place)), asked.texts[place], limit=10)
        return time.perf_counter() - began

    await search(0)
    cold = [await search(place) for place in track(range(1, count), "searching", console=STDERR, transient=True)]
    hot = [await search(place) for place in range(max(0, count - HOT), count)]
    touched = resident()
    await store.close()
    return {"opened": opened, "list": listing, "cold": cold, "hot": hot, "resident": touched}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(touch(Path(sys.argv[1]), int(sys.argv[2])))))
