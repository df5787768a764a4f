"""Whether a canary's rewards are worse than those of the version in force, or good enough. Pure arithmetic.

The unit is a session: one mean reward in [0, 1] each. It is looked at them when the smaller side counts `min_rewards` sessions, at each
doubling of that, and at its halvings down to 8: many looks are many chances to be wrong. At a look for n sessions those of one
namespace count for at most a quarter of n together (NAMESPACE_SHARE), so that nobody who floods feedback decides, or hastens a look.

The interval is that of Agresti and Caffo (2000) for two independent shares, which adds a success and a failure to each side, here
with weights, and with the larger of two variances: between sessions, and between namespaces, whose sessions are alike (clusters, with
the leverage of each taken out as a jackknife does). By the latter a single namespace widens the interval more than it moves the
difference: whatever it says, it does not decide. Where there is only one, it alone is who is asked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from statistics import NormalDist
from typing import Literal, NamedTuple

from recollect.canary import LEAST_REWARDS, Ended, Figures, Side

NAMESPACE_SHARE = 0.25
WORSE_LEVEL, GOOD_LEVEL = 0.95, 0.9
SideName = Literal["canary", "in_force"]


class _Counted(NamedTuple):
    """A side at a look: what its sessions count for, their mean, and of the mean with a success and a failure added its variance
    between sessions and what leaving out each namespace would change."""

    weight: float
    mean: float
    shrunk: float
    variance: float
    added: float
    without: Mapping[str, float]


class Rewarded:
    """The rewarded sessions of one side."""

    def __init__(self) -> None:
        self._values: dict[Hashable, tuple[str, float]] = {}
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._values)

    def put(self, session: Hashable, namespace: str, value: float | None) -> None:
        """A session's mean reward is now `value`, in [0, 1]; None: it has none."""
        if self._values.pop(session, None) is not None:
            self._of[namespace] -= 1
        if value is not None:
            self._values[session] = namespace, value
            self._of[namespace] += 1

    def weight(self, look: int) -> float:
        """For how many sessions they count at a look."""
        most = self._most(look)
        return sum(min(count, most) for count in self._of.values())

    def counted(self, look: int) -> _Counted | None:
        """What they say at a look; None without any."""
        if not self._values:
            return None
        most = self._most(look)
        weights = {namespace: min(1.0, most / count) for namespace, count in self._of.items() if count}
        weight = sum(weights[namespace] for namespace, _ in self._values.values())
        total = sum(weights[namespace] * value for namespace, value in self._values.values())
        shrunk = (total + 1) / (weight + 2)
        added = shrunk**2 + (1 - shrunk) ** 2
        between = added
        apart, leverage = dict.fromkeys(weights, 0.0), dict.fromkeys(weights, 0.0)
        for namespace, value in self._values.values():
            moved = weights[namespace] * (value - shrunk)
            between += moved**2
            apart[namespace] += moved
            leverage[namespace] += weights[namespace]
        without = {namespace: apart[namespace] / (weight + 2 - leverage[namespace]) for namespace in weights}
        return _Counted(weight, total / weight, shrunk, between / (weight + 2) ** 2, added / (weight + 2) ** 2, without)

    def _most(self, look: int) -> float:
        """For how many sessions one namespace counts at most. Where there are too few for the share, all count alike."""
        return look * max(NAMESPACE_SHARE, 1 / max(1, sum(count > 0 for count in self._of.values())))


class Comparison:
    """Both sides, in the order in which their rewards came: whoever hands over the same rewards finds the same decision."""

    def __init__(self, *, min_rewards: int, margin: float) -> None:
        """`margin`: how much worse a canary may be that is promoted, as in `Canary`."""
        self.decided: Ended | None = None
        """The first decision; later rewards do not change it."""
        self._sides: Mapping[SideName, Rewarded] = {"canary": Rewarded(), "in_force": Rewarded()}
        self._min_rewards = min_rewards
        self._margin = margin
        self._look = min_rewards
        while self._look // 2 >= LEAST_REWARDS:
            self._look //= 2

    def put(self, side: SideName, session: Hashable, namespace: str, value: float | None) -> None:
        """A session's mean reward is now `value`, in [0, 1]; None: it has none."""
        self._sides[side].put(session, namespace, value)
        if self.decided is None and min(len(one) for one in self._sides.values()) >= self._look:
            self._looked()

    def figures(self) -> Figures:
        """What is known so far, counted as at the next look."""
        canary, in_force = self._sides["canary"].counted(self._look), self._sides["in_force"].counted(self._look)
        found = Figures(canary=self._shown("canary", canary), in_force=self._shown("in_force", in_force))
        if canary is None or in_force is None:
            return found
        low, high = _interval(canary, in_force, WORSE_LEVEL)
        return found.model_copy(update={"difference": canary.mean - in_force.mean, "low": low, "high": high})

    def _shown(self, name: SideName, counted: _Counted | None) -> Side:
        return Side(sessions=len(self._sides[name]), counted=counted.weight if counted else 0.0, mean=counted.mean if counted else None)

    def _looked(self) -> None:
        weight = min(one.weight(self._look) for one in self._sides.values())
        if weight < self._look:
            return
        canary, in_force = self._sides["canary"].counted(self._look), self._sides["in_force"].counted(self._look)
        assert canary is not None
        assert in_force is not None
        figures = self.figures()
        if _interval(canary, in_force, WORSE_LEVEL)[1] < 0:
            self.decided = Ended(verdict="rolled_back", reason=f"its rewards are worse for certain: {figures.said}", figures=figures)
        elif self._look >= self._min_rewards and (low := _interval(canary, in_force, GOOD_LEVEL)[0]) > -self._margin:
            reason = f"its rewards are not worse by more than {self._margin:g} (lower end at 90 %: {low:+.3f}): {figures.said}"
            self.decided = Ended(verdict="promoted", reason=reason, figures=figures)
        while self._look <= weight:
            self._look *= 2


def _interval(canary: _Counted, in_force: _Counted, level: float) -> tuple[float, float]:
    """Of the difference of the means, canary less version in force."""
    variance = canary.variance + in_force.variance
    if len(namespaces := canary.without.keys() | in_force.without.keys()) > 1:
        clusters = sum((canary.without.get(name, 0.0) - in_force.without.get(name, 0.0)) ** 2 for name in namespaces)
        variance = max(variance, canary.added + in_force.added + clusters)
    half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(variance)
    difference = canary.shrunk - in_force.shrunk
    return difference - half, difference + half
