"""What a process and a folder grow to while something else runs: resident memory, fragments, bytes on the disk."""

# pyright: basic
# because Lance carries no types.

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import lance
import psutil

EVERY_S = 0.5
_session = cast(Any, lance).Session(index_cache_size_bytes=2**20, metadata_cache_size_bytes=2**20)


class Watch:
    """The most of each that was seen."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.before = resident()
        self.resident = self.before
        self.fragments = 0

    def look(self) -> None:
        self.resident = max(self.resident, resident())
        self.fragments = max(self.fragments, fragments(self._folder))

    async def look_on(self) -> None:
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(EVERY_S)


@asynccontextmanager
async def watching(folder: Path) -> AsyncGenerator[Watch]:
    """Look at the folder of a store every half second."""
    watch = Watch(folder)
    task = asyncio.create_task(watch.look_on())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        watch.look()


def resident() -> int:
    """Bytes of this process."""
    return psutil.Process().memory_info().rss


def fragments(folder: Path) -> int:
    """Of all tables of a store."""
    return sum(len(lance.dataset(path, session=_session).get_fragments()) for path in tables(folder))


def tables(folder: Path) -> list[Path]:
    """The tables of a store that were created."""
    return [path for path in folder.glob("*/*.lance") if (path / "_versions").is_dir()]


def size(folder: Path) -> int:
    """Bytes of all files below a folder; a file that goes away meanwhile counts nothing."""
    return sum(_bytes(path) for path in folder.rglob("*"))


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


def fresh_copy(folder: Path, to: Path) -> int:
    """Bytes of a Lance table that is written at once from the rows of a store's only table."""
    (path,) = tables(folder)
    lance.write_dataset(lance.dataset(path, session=_session).scanner(batch_size=8192).to_reader(), to)
    return size(to)
