"""Rows into a namespace of our store, in batches."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.progress import track

from benchmarks.given import GivenEmbedder
from benchmarks.rows import Rows
from memory_store.store import LanceMemoryStore
from recollect.memory import MemoryWrite, Namespace

BATCH = 10_000
STDERR = Console(file=sys.stderr)


def namespace(name: str) -> Namespace:
    return Namespace(parts=(("user", name),))


def writes(texts: Iterable[str], first: int = 0) -> list[MemoryWrite]:
    """Additions with the ids m<first>, m<first + 1>, ..."""
    return [MemoryWrite(op="add", id=f"m{number}", text=text) for number, text in enumerate(texts, start=first)]


async def fill(store: LanceMemoryStore, embedder: GivenEmbedder, space: Namespace, batches: Iterable[Rows], *, of: int) -> None:
    """Write `of` batches, telling the progress on stderr."""
    done = 0
    for batch in track(batches, f"writing {space}", total=of, console=STDERR, transient=True):
        embedder.hold(batch)
        await store.apply(space, writes(batch.texts, done))
        done += len(batch.texts)


def parts(rows: Rows, size: int = BATCH) -> list[Rows]:
    """The rows in batches of at most `size`."""
    starts = range(0, len(rows.texts), size)
    return [Rows(rows.texts[start : start + size], rows.vectors[start : start + size]) for start in starts]
