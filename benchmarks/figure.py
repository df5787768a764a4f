"""A measured figure, and how times are summed up."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import numpy as np


class Figure(NamedTuple):
    """One line of the table. `target` says what design asks for; empty where it asks for nothing."""

    name: str
    value: str
    target: str = ""


async def timed(action: Callable[[int], Awaitable[object]], count: int, *, warm_up: int = 5) -> np.ndarray:
    """Seconds of each of `count` awaited actions, after `warm_up` that are not counted."""
    for i in range(warm_up):
        await action(-1 - i)
    taken = np.empty(count)
    for i in range(count):
        began = time.perf_counter()
        await action(i)
        taken[i] = time.perf_counter() - began
    return taken


def p50_p95(seconds: np.ndarray) -> str:
    """Median and 95th percentile in milliseconds."""
    return f"p50 {np.percentile(seconds, 50) * 1e3:.2f} ms, p95 {np.percentile(seconds, 95) * 1e3:.2f} ms"


async def alternating(actions: Mapping[str, Callable[[int], Awaitable[object]]], count: int, *, warm_up: int = 10) -> dict[str, np.ndarray]:
    """Seconds of each of `count` awaited calls of each action, in turns of ten, so that what else the machine does hits all alike."""
    for action in actions.values():
        for number in range(warm_up):
            await action(number)
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for start in range(0, count, 10):
        for name, action in actions.items():
            for number in range(start, min(start + 10, count)):
                began = time.perf_counter()
                await action(number)
                taken[name].append(time.perf_counter() - began)
    return {name: np.array(seconds) for name, seconds in taken.items()}


def p50_p99(seconds: np.ndarray) -> str:
    """Median and 99th percentile in milliseconds."""
    return f"p50 {np.percentile(seconds, 50) * 1e3:.2f} ms, p99 {np.percentile(seconds, 99) * 1e3:.2f} ms"


def ratio(ours: np.ndarray, theirs: np.ndarray) -> str:
    """How long ours takes for one of theirs: below 1 is faster."""
    of = [np.percentile(ours, part) / np.percentile(theirs, part) for part in (50, 95)]
    return f"p50 {of[0]:.2f}, p95 {of[1]:.2f}"


def megabytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB"
