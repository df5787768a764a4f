"""The rewards of one rollout, by the weights of the configuration. Values only; trainer/credit makes advantages of them."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from recollect.trajectory import Reward, Trajectory
from trainer.environments.tasks import Task
from trainer.rewards.case import Case, Origins, Scoring
from trainer.rewards.catalogue import JUDGE, MEASURES
from trainer.rewards.judge import Judge
from trainer.rewards.matches import Value, value_of
from trainer.rewards.weights import RewardWeights

NO_ORIGINS: Mapping[str, AbstractSet[str]] = {}


async def score(
    task: Task,
    trajectory: Trajectory,
    weights: RewardWeights = RewardWeights(),
    *,
    scoring: Scoring = Scoring(),
    origins: Origins = NO_ORIGINS,
    judge: Judge | None = None,
) -> list[Reward]:
    """The comparison that the task's metric names, first, and every other reward that has a weight and applies.

    A score is None, and its metadata say why, where it could not be found; all are for a trajectory that failed. A reward
    that does not apply to the task or its agent is left out.
    """
    wanted = weights.of(task.metric)
    if trajectory.error is not None:
        return [Reward(name=name, score=None, weight=weight) for name, weight in wanted.items()]
    case = Case(task, trajectory, scoring, origins)
    found = {name: await _judged(case, judge) if name == JUDGE else value_of(MEASURES[name](case)) for name in wanted}
    return [_reward(name, value, wanted[name]) for name, value in found.items() if value is not None]


async def _judged(case: Case, judge: Judge | None) -> Value:
    if judge is None:
        return Value(None, reason="there is no judge")
    verdict = await judge.verdict(case.question, case.task.gold, case.named)
    return Value(verdict.score, reason=verdict.reason)


def _reward(name: str, value: Value, weight: float) -> Reward:
    metadata = {"reason": value.reason} if value.reason else {}
    return Reward(name=name, score=value.score, weight=weight, by_step=dict(value.by_step), metadata=dict(metadata))
