"""Latency of served requests while `recollect nightly` learns on the same two cores, against without: the same users, in the same run."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from openai import AsyncOpenAI

from benchmarks.figure import Figure, p50_p95, ratio
from benchmarks.scale import scaled
from trainer.demo.serving import Serving
from trainer.demo.story import drawn
from trainer.demo.users import client, give_feedback, live, live_all
from trainer.environments.tasks import Task

SETTINGS = ["agents.writing=operations", "embedder.kind=hash"]
NIGHT = ("iterations=8", "gate.regression_tasks=60", "samples_per_task=1", "--min-tasks", "2")
PAUSE_S = 1.0
"""Between the requests of the one user who is measured: somebody who talks, not a load test."""


async def run() -> list[Figure]:
    """One user tells and asks without a night, then beside one."""
    with tempfile.TemporaryDirectory() as folder:
        serving = Serving(Path(folder), SETTINGS)
        await asyncio.to_thread(serving.start, lambda _: None)
        try:
            tasks = drawn(scaled(40), scaled(20), "train", name="night")
            await give_feedback(serving.url, await live_all(serving.url, tasks, "day", lambda: None))
            quiet = asyncio.create_task(asyncio.sleep(scaled(120, 10)))
            alone = await _latencies(serving.url, drawn(200, 0, "held_out", name="alone"), quiet)
            night = asyncio.create_task(_night(Path(folder)))
            beside = await _latencies(serving.url, drawn(2000, 0, "held_out", name="beside"), night)
            said = await night
        finally:
            await asyncio.to_thread(serving.stop)
    return [
        Figure("requests alone and beside", f"{len(alone)}, {len(beside)}"),
        Figure("the night", said),
        Figure("latency alone", p50_p95(alone)),
        Figure("latency beside a night", p50_p95(beside)),
        Figure("beside to alone", ratio(beside, alone)),
    ]


async def _latencies(url: str, tasks: Sequence[Task], until: asyncio.Task[Any]) -> np.ndarray:
    """Seconds of each question of a user, until something is over. Raises what the client raises: a failed request is no latency."""
    found: list[float] = []
    async with client(url) as openai:
        for number, task in enumerate(cycle(tasks)):
            if until.done():
                return np.array(found)
            found.append(await _asked(openai, task, f"user-{number}"))
            await asyncio.sleep(PAUSE_S)
    return np.array(found)


async def _asked(openai: AsyncOpenAI, task: Task, user: str) -> float:
    """Seconds of one question without anything told before."""
    began = time.perf_counter()
    await live(openai, task.model_copy(update={"conversation": ()}), user)
    return time.perf_counter() - began


async def _night(home: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "recollect", "--home", str(home), "nightly", "--json", *SETTINGS, *NIGHT), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    report = json.loads(out)
    if process.returncode not in (0, 4):
        raise RuntimeError(f"the night ended with status {process.returncode}: {report['said']}")
    return f"{report['seconds']:.0f} s, {report['calls_per_s']:.0f} calls/s, status {process.returncode}"
