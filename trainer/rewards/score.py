"""The rewards of one rollout: exact match first, format with a small weight."""

from __future__ import annotations

from recollect.trajectory import Reward, Trajectory
from trainer.environments.tasks import Task
from trainer.rewards.exact_match import boxed_exact_match, exact_match
from trainer.rewards.format import box_format, operations_format

EXACT_MATCH, FORMAT = "exact_match", "format"


def score(task: Task, trajectory: Trajectory, *, exact_match_weight: float = 1.0, format_weight: float = 0.1) -> list[Reward]:
    """Exact match and, where the agent's output has a format, format. Scores are None for a trajectory that failed."""
    failed = trajectory.error is not None
    if task.kind == "reading":
        matched, form = boxed_exact_match(trajectory.answer, task.gold), box_format(trajectory.answer)
    else:
        matched, form = exact_match(trajectory.answer, task.gold), operations_format(trajectory.steps)
    rewards = [Reward(name=EXACT_MATCH, score=None if failed else matched, weight=exact_match_weight)]
    if form is not None and format_weight:
        rewards.append(Reward(name=FORMAT, score=None if failed else form, weight=format_weight))
    return rewards
