"""Held-out accuracy of a policy, and the paired comparison of two policies on the same tasks with the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recollect.model import Frozen


class Evaluation(Frozen):
    """Accuracy by task. `sampled` is the mean of the sampled answers of a task, `greedy` its greedy answer; None: not scored."""

    policy: str
    tasks: tuple[str, ...]
    kinds: tuple[str, ...]
    sampled: tuple[float | None, ...]
    greedy: tuple[float | None, ...]
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
    """A mean difference (after minus before) with its 95 % interval, over `num_pairs` tasks scored in both."""

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
