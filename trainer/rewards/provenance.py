"""Which step wrote what, and what the answer was given: views of a trajectory that credit and rewards share."""

from __future__ import annotations

from recollect.trajectory import MemoryRef, Step, Trajectory
from trainer.rewards.operations import writes


def answering(trajectory: Trajectory) -> Step | None:
    """The call that gave the answer: the last one that wrote no memory."""
    calls = [step for step in trajectory.steps if step.policy is not None]
    return next((step for step in reversed(calls) if step.error is None and not writes(step)), None)


def shown(trajectory: Trajectory) -> list[MemoryRef]:
    """The memories that the answering call was shown, best first."""
    last = answering(trajectory)
    found = last.retrieved if last else []
    return sorted(found, key=lambda m: m.score if m.score is not None else float("-inf"), reverse=True)


def writing(trajectory: Trajectory) -> list[Step]:
    """The steps that could change the memory."""
    return [step for step in trajectory.steps if writes(step)]


def writers(trajectory: Trajectory) -> dict[str, int]:
    """The step that wrote each memory last."""
    return {op.id: step.index for step in writing(trajectory) for op in step.memory_ops if op.applied and op.id and op.op != "noop"}
