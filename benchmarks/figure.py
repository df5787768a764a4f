"""A measured figure, and how times are summed up."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
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
