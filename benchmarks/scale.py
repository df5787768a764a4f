"""How large the benchmarks are: RECOLLECT_BENCH_SCALE, or `--scale`, multiplies every count; 0.01 is a rehearsal."""

from __future__ import annotations

import os

VARIABLE = "RECOLLECT_BENCH_SCALE"


def scaled(count: int, least: int = 1) -> int:
    """`count` at the scale of this run, at least `least`. Read at every call, because `--scale` sets the variable late."""
    return max(least, round(count * float(os.environ.get(VARIABLE, "1"))))


def number(count: int) -> str:
    """A count as people write it: 100,000."""
    return f"{count:,}"
