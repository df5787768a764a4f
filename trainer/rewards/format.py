"""Format: whether what a policy wrote can be read: memory operations in lines or JSON, an answer in a box."""

from __future__ import annotations

from collections.abc import Sequence

from recollect.normalised import boxed
from recollect.trajectory import MemoryOp, Step
from trainer.rewards.operations import WRITING


def box_format(answer: str) -> float:
    """1.0 if the answer holds a box in its final 300 characters."""
    return float(boxed(answer) is not None)


def operations_format(steps: Sequence[Step]) -> float | None:
    """The share of memory operations that could be read; a call that wrote none counts as one that could not. None without calls."""
    calls = [step for step in steps if step.role in WRITING]
    if not calls:
        return None
    readable = [_readable(op) for step in calls for op in step.memory_ops] + [False for step in calls if not step.memory_ops]
    return sum(readable) / len(readable)


def _readable(op: MemoryOp) -> bool:
    """What cannot be read is kept as a noop that was not applied; logs of earlier versions say no more than that."""
    return op.well_formed and (op.op != "noop" or op.applied)
