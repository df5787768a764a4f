"""Held-out accuracy of a policy, and the paired comparison of two policies on the same tasks with the same seeds."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from recollect.model import Frozen
from recollect.policy import Policy
from recollect.trajectory import Trajectory
from server.engines.base import Sampling
from trainer.environments.tasks import Task
from trainer.rollout import Rollouts


class Evaluation(Frozen):
    """Accuracy by task. `sampled` is the mean of the sampled answers of a task, `greedy` its greedy answer; None: not scored."""

    policy: str
    tasks: tuple[str, ...]
    kinds: tuple[str, ...]
    sampled: tuple[float | None, ...]
    greedy: tuple[float | None, ...]
    greedy_answers: tuple[str | None, ...] = ()
    """None for a rollout that failed."""
    samples_per_task: int
    num_errors: int = 0
    duration_s: float = 0.0

    @property
    def accuracy(self) -> float | None:
        """Mean over the tasks that were scored."""
        return mean(self.sampled)

    @property
    def greedy_accuracy(self) -> float | None:
        """Mean over the tasks that were scored."""
        return mean(self.greedy)

    def by_kind(self) -> dict[str, float | None]:
        """Sampled accuracy of each kind of task."""
        return {kind: mean([s for s, k in zip(self.sampled, self.kinds, strict=True) if k == kind]) for kind in sorted(set(self.kinds))}


class Difference(NamedTuple):
    """A mean difference (after minus before) with its interval, over `num_pairs` tasks scored in both."""

    mean: float
    low: float
    high: float
    num_pairs: int


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are not None; None if there is none."""
    scored = [v for v in values if v is not None]
    return sum(scored) / len(scored) if scored else None


def paired_difference(
    before: Sequence[float | None], after: Sequence[float | None], *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> Difference | None:
    """Percentile bootstrap over tasks of the mean of after minus before (Efron and Tibshirani 1993); None without pairs.

    Pairs in which either side was not scored are left out. Raises ValueError if the lengths differ.
    """
    pairs = [(b, a) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    if not pairs:
        return None
    differences = np.asarray([a - b for b, a in pairs], dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(differences), size=(resamples, len(differences)))
    means = differences[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(differences.mean()), float(low), float(high), len(pairs))


async def evaluate(
    rollouts: Rollouts,
    tasks: Sequence[Task],
    policy: Policy,
    *,
    samples_per_task: int,
    temperature: float,
    max_tokens: int,
    seed: int,
    progress: Callable[[], None] | None = None,
) -> Evaluation:
    """Each task by its metric: the mean of some sampled answers with fixed seeds, and one greedy answer."""

    def sampling(task: Task, sibling: int) -> Sampling:
        if sibling == samples_per_task:
            return Sampling(temperature=0.0, max_tokens=max_tokens)
        return Sampling(temperature=temperature, max_tokens=max_tokens, seed=zlib.crc32(f"{seed}/{task.id}/{sibling}".encode()))

    started = time.perf_counter()
    groups = await rollouts.groups(tasks, samples_per_task + 1, policy=policy, sampling=sampling, progress=progress)
    scores = [[matched(t) for t in group.trajectories] for group in groups]
    return Evaluation(
        policy=policy.name,
        tasks=tuple(task.id for task in tasks),
        kinds=tuple(task.kind for task in tasks),
        sampled=tuple(mean(of_task[:-1]) for of_task in scores),
        greedy=tuple(of_task[-1] for of_task in scores),
        greedy_answers=tuple(None if (last := group.trajectories[-1]).error else last.answer for group in groups),
        samples_per_task=samples_per_task,
        num_errors=sum(t.error is not None for group in groups for t in group.trajectories),
        duration_s=time.perf_counter() - started,
    )


def matched(trajectory: Trajectory) -> float | None:
    """The score of a trajectory by its task's metric, which stands first; None if it was not scored."""
    return trajectory.rewards[0].score if trajectory.rewards else None
