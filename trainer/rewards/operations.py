"""Memory operations that took effect: well-formed, and applied to memories that were there (Mem-alpha, arXiv 2509.25911: tool success)."""

from __future__ import annotations

from collections.abc import Sequence

from recollect.trajectory import Step
from server.agents.memory_r1.manager import ROLE as MANAGER
from server.agents.updater import ROLE as UPDATER

WRITING = frozenset({UPDATER, MANAGER})
"""Roles of modules whose every call is to end in memory operations."""


def valid_operation(steps: Sequence[Step]) -> float | None:
    """The share of the policy's memory operations that were well-formed and could be applied, in [0, 1]; None without calls.

    A call that should have written an operation and wrote none counts as one that was not. `format` counts what could be
    read alone.
    """
    calls = [step for step in steps if step.policy is not None and step.error is None and writes(step)]
    done = [op.applied for step in calls for op in step.memory_ops] + [False for step in calls if not step.memory_ops]
    return sum(done) / len(done) if done else None


def writes(step: Step) -> bool:
    """True for a step that could change the memory."""
    return bool(step.memory_ops) or step.role in WRITING
