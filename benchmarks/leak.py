"""Whether the server grows: 200,000 stub requests by 32 clients, its resident memory seen from outside, its handles and objects.

Of ten requests four are plain and four stream with memory off, one of each has memory on, in 20 namespaces of 50 turns: what is
remembered is bounded, the log is on the disk. RECOLLECT_BENCH_TRACE=1 also tells which lines' memory grew, and takes longer.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks.figure import Figure
from benchmarks.http_load import asked, counted_loop
from benchmarks.scale import number, scaled
from benchmarks.started import QUIET, started

REQUESTS = 200_000
SAMPLES = 40
CLIENTS = 32
NAMESPACES, TURNS = 20, 50
SETTLING_S = 6.0
"""Until idle connections are closed: those of the clients that are gone, and those to the upstream (4 s)."""
TELLING_S = 120.0


class Held(NamedTuple):
    """What a server holds while nobody asks it anything."""

    descriptors: int
    threads: int
    told: dict[str, Any]

    @classmethod
    async def of(cls, server: psutil.Process, file: Path) -> Held:
        """Once idle connections are closed. Raises TimeoutError."""
        await asyncio.sleep(SETTLING_S)
        descriptors, threads = server.num_fds(), server.num_threads()
        os.kill(server.pid, signal.SIGUSR1)
        return cls(descriptors, threads, await asyncio.to_thread(_taken, file))


async def run() -> list[Figure]:
    """Warm up with a tenth as many, then count."""
    total = scaled(REQUESTS, SAMPLES)
    part = total // SAMPLES
    with tempfile.TemporaryDirectory() as place:
        told = Path(place) / "told.json"
        trace = os.environ.get("RECOLLECT_BENCH_TRACE", "0")
        counting = ("-m", "benchmarks.counted_server", str(told), trace, "--home", f"{place}/home", "serve")
        async with started("-m", "benchmarks.stub", "{port}") as stub:
            arguments = (*counting, *QUIET, f"engine.urls=[{stub.url}]", "server.port={port}")
            async with started(*arguments, path="/ready") as server:
                process = psutil.Process(server.pid)
                await counted_loop(server.url, _body, clients=CLIENTS, numbers=range(max(total // 10, 10 * NAMESPACES)))
                before = await Held.of(process, told)
                began, resident = time.perf_counter(), [process.memory_info().rss]
                for start in range(0, part * SAMPLES, part):
                    await counted_loop(server.url, _body, clients=CLIENTS, numbers=range(start, start + part))
                    resident.append(process.memory_info().rss)
                    print(f"  {number(start + part)}: {resident[-1] / 1e6:.1f} MB", file=sys.stderr, flush=True)
                seconds = time.perf_counter() - began
                after = await Held.of(process, told)
    return [
        Figure(f"{number(part * SAMPLES)} requests, answers a second", f"{part * SAMPLES / seconds:.0f}"),
        Figure("resident after the warm-up, at half, at the end", ", ".join(f"{resident[i] / 1e6:.1f} MB" for i in (0, SAMPLES // 2, -1))),
        Figure("growth for 100,000 requests, second half (line of least squares)", f"{_slope(resident, part):.2f} MB", "less than 1 MB"),
        Figure("open descriptors before, after", f"{before.descriptors}, {after.descriptors}", "no more after"),
        Figure("threads before, after", f"{before.threads}, {after.threads}", "no more after"),
        Figure("tasks of the event loop before, after", f"{before.told['tasks']}, {after.told['tasks']}", "no more after"),
        Figure("objects before, after", f"{number(before.told['objects'])}, {number(after.told['objects'])}"),
        Figure("of which grew most", _grown(before.told["kinds"], after.told["kinds"], 6)),
        *(
            [Figure("lines that grew most, bytes", _grown(before.told["traced"], after.told["traced"], 20))]
            if "traced" in after.told
            else []
        ),
    ]


def _taken(file: Path) -> dict[str, Any]:
    """What the server tells in the file, which then goes away. Raises TimeoutError."""
    until = time.monotonic() + TELLING_S
    while not file.exists():  # the server is another process: there is no event to wait for
        if time.monotonic() > until:
            raise TimeoutError(f"the server told nothing in {TELLING_S:.0f} s")
        time.sleep(0.05)
    told = json.loads(file.read_text("utf-8"))
    file.unlink()
    return told


def _body(at: int) -> bytes:
    """Request number `at`."""
    kind, turn = at % 10, at // 10
    stream = kind % 2 == 1
    if kind < 8:
        return asked("memory", stream=stream, metadata={"memory": "off"})
    text = f"My dog number {turn // NAMESPACES % TURNS} is called Rex and likes the sea."
    return asked("memory", stream=stream, text=text, user=f"user-{turn % NAMESPACES}")


def _slope(resident: list[int], part: int) -> float:
    """MB for 100,000 requests, over the second half."""
    half = np.array(resident[len(resident) // 2 :])
    return float(np.polyfit(np.arange(len(half)) * part, half, 1)[0] * 100_000 / 1e6)


def _grown(before: dict[str, int], after: dict[str, int], most: int) -> str:
    grown = Counter({kind: count - before.get(kind, 0) for kind, count in after.items()})
    return ", ".join(f"{kind} {count:+,}" for kind, count in grown.most_common(most) if count > 0) or "none"
