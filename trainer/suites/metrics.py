"""Metrics of a suite: functions from an answer and its gold answers to a score in [0, 1], or rewards by their names.

They are reported, not trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recollect.errors import ConfigurationError
from recollect.normalised import boxed, normalised
from recollect.trajectory import Trajectory
from trainer.environments.tasks import Task
from trainer.evaluate import matched
from trainer.rewards.bleu import bleu1
from trainer.rewards.catalogue import MEASURES
from trainer.rewards.containment import contains_all, contains_any
from trainer.rewards.exact_match import boxed_exact_match, exact_match
from trainer.rewards.f1 import token_f1
from trainer.rewards.weights import RewardWeights
from trainer.suites.suite import TASK, Suite

Metric = Callable[[str, Sequence[str]], float]


def boxed_all(answer: str, gold: Sequence[str]) -> float:
    """1.0 if the last box lists exactly the gold strings, in any order, else 0.0: MemFactory's all-or-nothing (arXiv 2603.29493).

    The paper asks a language model whether they agree; here the items between commas are compared after normalisation.
    """
    inside = boxed(answer)
    return 0.0 if inside is None else float({normalised(item) for item in inside.split(",")} == {normalised(g) for g in gold})


METRICS: dict[str, Metric] = {
    "exact_match": exact_match,
    "boxed": boxed_exact_match,
    "boxed_all": boxed_all,
    "contains_all": contains_all,
    "contains_any": contains_any,
    "f1": token_f1,
    "bleu1": bleu1,
}


def metrics_of(suite: Suite) -> dict[str, dict[str, str]]:
    """For each set of the suite, the metric of each column. Raises ConfigurationError for an unknown metric or column."""
    found = {one.name: {**suite.metrics, **one.metrics} for one in suite.sets}
    for name, columns in found.items():
        for column, metric in columns.items():
            if metric not in (TASK, *METRICS, *MEASURES):
                known = ", ".join(sorted({TASK, *METRICS, *MEASURES}))
                raise ConfigurationError(f"set {name!r}: no metric {metric!r}; known metrics: {known}", param=f"metrics.{column}")
            if column not in suite.metrics:
                columns = ", ".join(suite.metrics)
                raise ConfigurationError(f"set {name!r}: no column {column!r}; the suite has: {columns}", param=f"metrics.{column}")
    return found


def rewards_of(columns: Mapping[str, Mapping[str, str]]) -> RewardWeights:
    """The rewards that the columns need, each of weight 1: nothing is trained on their sum."""
    named = {metric for of_set in columns.values() for metric in of_set.values() if metric in MEASURES and metric not in METRICS}
    return RewardWeights.model_validate({"format": 0.0} | dict.fromkeys(sorted(named), 1.0))


def scores(task: Task, trajectory: Trajectory, columns: Mapping[str, str]) -> dict[str, float | None]:
    """The score of each column; None for what failed or could not be scored."""
    if trajectory.error is not None:
        return dict.fromkeys(columns)
    return {column: _score(metric, task, trajectory) for column, metric in columns.items()}


def _score(metric: str, task: Task, trajectory: Trajectory) -> float | None:
    if metric == TASK:
        return matched(trajectory)
    if metric in METRICS:
        return METRICS[metric](trajectory.answer, task.gold)
    return next((reward.score for reward in trajectory.rewards if reward.name == metric), None)
