"""What a peer is told to do, and how it tells what it measured: a folder of rows, JSON on the command line, JSON on stdout."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

LIMIT = 10
WARM_UP = 10


@dataclass(frozen=True)
class Job:
    """`namespaces` 0: all rows are in one; else row i is in namespace i // (rows / namespaces), and so is query i of as many."""

    kind: str
    """search or writes."""
    folder: str
    namespaces: int = 0
    layout: str = ""
    seconds: float = 20.0
    """No more is begun after so long."""
    clients: int = 8


@dataclass
class Told:
    """Seconds of every call; for searches the rows found by each, for writes how it ended."""

    seconds: list[float] = field(default_factory=list)
    found: list[list[int]] = field(default_factory=list)
    wall: float = 0.0
    errors: list[str] = field(default_factory=list)


def main(search: Callable[[Job, Rows], Told], writes: Callable[[Job, Rows], Told]) -> None:
    """Do the job of the command line with one of the two, and print what came of it as the last line."""
    job = Job(**json.loads(sys.argv[1]))
    told = (search if job.kind == "search" else writes)(job, Rows(Path(job.folder)))
    print(json.dumps(asdict(told)))


class Rows:
    """The rows and queries of a folder."""

    def __init__(self, folder: Path) -> None:
        self.texts: list[str] = json.loads((folder / "texts.json").read_text("utf-8"))
        self.vectors: Any = np.load(folder / "vectors.npy")
        self.asked: list[str] = json.loads((folder / "asked.json").read_text("utf-8"))
        self.asked_vectors: Any = np.load(folder / "asked.npy")

    def owner(self, row: int, job: Job) -> int:
        """The namespace of a row, or of the query about it."""
        return row * job.namespaces // len(self.texts) if job.namespaces else 0


def time_searches(search: Callable[[int], list[int]], rows: Rows, job: Job) -> Told:
    """Ask every query in turn, until the time is up; the first ten are asked once more before, without counting."""
    told = Told()
    for number in range(min(WARM_UP, len(rows.asked))):
        search(number)
    end = time.perf_counter() + job.seconds
    for number in range(len(rows.asked)):
        began = time.perf_counter()
        if began > end:
            break
        found = search(number)
        told.seconds.append(time.perf_counter() - began)
        told.found.append(found)
    return told


def time_writes(write: Callable[[int], None], rows: Rows, job: Job) -> Told:
    """Write the rows one by one from several threads, until the time is up. What fails is counted by its message."""
    told, end, began = Told(), time.perf_counter() + job.seconds, time.perf_counter()

    def client(first: int) -> None:
        for row in range(first, len(rows.texts), job.clients):
            started = time.perf_counter()
            if started > end:
                return
            try:
                write(row)
            except Exception as exc:  # noqa: BLE001 - a peer that cannot take concurrent writes is a result, not a fault of ours
                told.errors.append(f"{type(exc).__name__}: {exc}"[:200])
            else:
                told.seconds.append(time.perf_counter() - started)

    threads = [threading.Thread(target=client, args=(first,)) for first in range(job.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.wall = time.perf_counter() - began
    return told
