"""What namespaces cost: a hundred, a thousand and ten thousand of twenty memories, and the straight line on to a hundred thousand.

Reading is measured in a process of its own (touch.py), so that its memory is that of a store which was just opened.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.figure import Figure, megabytes, p50_p95
from benchmarks.given import GivenEmbedder
from benchmarks.load import STDERR, namespace, writes
from benchmarks.rows import rows
from benchmarks.scale import number, scaled
from memory_store.store import LanceMemoryStore

COUNTS = (100, 1_000, 10_000)
MEMORIES = 20
FAR = 100_000


async def run() -> list[Figure]:
    """The same home grows from count to count."""
    figures: list[Figure] = []
    measured: list[tuple[int, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        done = 0
        for count in (scaled(count, 5 * place) for place, count in enumerate(COUNTS, start=1)):
            created, closing = await _create(Path(folder), done, count)
            told = await _touched(Path(folder), count)
            files, folders, size = await asyncio.to_thread(_counted, Path(folder))
            done = count
            measured.append((count, {"bytes": size, "resident": told["resident"], "list": told["list"], "files": files}))
            figures += _figures(f"{number(count)} namespaces", count, created, closing, told, (files, folders, size))
    return figures + _far(measured)


async def _create(root: Path, first: int, last: int) -> tuple[np.ndarray, float]:
    """Seconds to create each namespace with its twenty memories, and to close the store, which leaves the tables tidy."""
    embedder = GivenEmbedder()
    store = LanceMemoryStore(root, embedder)
    taken = np.zeros(last - first)
    for place in track(range(first, last), "creating namespaces", console=STDERR, transient=True):
        made = rows(MEMORIES, seed=place)
        embedder.hold(made)
        began = time.perf_counter()
        await store.apply(namespace(str(place)), writes(made.texts))
        taken[place - first] = time.perf_counter() - began
    began = time.perf_counter()
    await store.close()
    return taken, time.perf_counter() - began


async def _touched(root: Path, count: int) -> dict[str, Any]:
    command = (sys.executable, "-m", "benchmarks.touch", str(root), str(count))
    process = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[1], stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"benchmarks.touch ended with {process.returncode}")
    return json.loads(output)


def _counted(root: Path) -> tuple[int, int, int]:
    """Files, folders and bytes of all files."""
    found = list(root.rglob("*"))
    files = [path for path in found if path.is_file()]
    return len(files), len(found) - len(files), sum(path.stat().st_size for path in files)


def _figures(
    what: str, count: int, created: np.ndarray, closing: float, told: dict[str, Any], on_disk: tuple[int, int, int]
) -> list[Figure]:
    files, folders, size = on_disk
    return [
        Figure(f"{what}: create one with {MEMORIES} memories", p50_p95(created)),
        Figure(f"{what}: close the store afterwards", f"{closing:.1f} s"),
        Figure(f"{what}: of one, on the disk", f"{files / count:.1f} files, {folders / count:.1f} folders, {size / count / 1e3:.1f} kB"),
        Figure(f"{what}: list them", f"{told['list'] * 1e3:.0f} ms"),
        Figure(f"{what}: first search in one, cold", p50_p95(np.array(told["cold"]))),
        Figure(f"{what}: search in one again, hot", p50_p95(np.array(told["hot"]))),
        Figure(f"{what}: resident memory, opened / all searched", f"{megabytes(told['opened'])} / {megabytes(told['resident'])}"),
    ]


def _far(measured: list[tuple[int, dict[str, float]]]) -> list[Figure]:
    """The line through the last two counts."""
    (few, fewer), (many, more) = measured[-2:]
    at = {name: more[name] + (more[name] - fewer[name]) / (many - few) * (FAR - many) for name in more}
    return [
        Figure(f"{number(FAR)} namespaces, extrapolated: on the disk", f"{number(round(at['files']))} files, {megabytes(at['bytes'])}"),
        Figure(f"{number(FAR)} namespaces, extrapolated: list them", f"{at['list']:.1f} s"),
        Figure(f"{number(FAR)} namespaces, extrapolated: resident memory, all searched", megabytes(at["resident"])),
    ]
