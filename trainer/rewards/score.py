"""The rewards of one rollout: exact match first, token F1 where it is wanted, format with a small weight."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from recollect.model import Frozen
from recollect.trajectory import Reward, Trajectory
from trainer.environments.tasks import Task
from trainer.rewards.exact_match import boxed_exact_match, exact_match
from trainer.rewards.f1 import token_f1
from trainer.rewards.format import box_format, operations_format

EXACT_MATCH, F1, FORMAT = "exact_match", "f1", "format"


class RewardWeights(Frozen):
    """What each part of the reward counts; a part that weighs nothing is left out, exact match is always scored."""

    exact_match: float = Field(default=1.0, ge=0)
    f1: float = Field(default=0.0, ge=0)
    format: float = Field(default=0.1, ge=0)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.exact_match == self.f1 == self.format == 0:
            raise ValueError("one of exact_match, f1 and format must be above 0")
        return self


def score(task: Task, trajectory: Trajectory, weights: RewardWeights = RewardWeights()) -> list[Reward]:
    """Exact match and, where the agent's output has a format, format. Scores are None for a trajectory that failed."""
    failed = trajectory.error is not None
    if task.kind == "reading":
        matched, form = boxed_exact_match(trajectory.answer, task.gold), box_format(trajectory.answer)
    else:
        matched, form = exact_match(trajectory.answer, task.gold), operations_format(trajectory.steps)
    rewards = [Reward(name=EXACT_MATCH, score=None if failed else matched, weight=weights.exact_match)]
    if weights.f1:
        rewards.append(Reward(name=F1, score=None if failed else token_f1(trajectory.answer, task.gold), weight=weights.f1))
    if form is not None and weights.format:
        rewards.append(Reward(name=FORMAT, score=None if failed else form, weight=weights.format))
    return rewards
