"""What an estimator of credit is given and returns, and how one is registered by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from recollect import installed
from recollect.errors import ConfigurationError
from recollect.trajectory import Trajectory

if TYPE_CHECKING:
    from trainer.credit.settings import Credit

ENTRY_POINTS = "recollect.credit"
"""The group in which an installed package names its Python modules; importing them registers their estimators."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """A trajectory of a group that did not fail, and what all its rewards come to."""

    trajectory: Trajectory
    reward: float

    @property
    def outcome(self) -> float:
        """The weighted sum of the rewards that do not tell the steps apart."""
        return sum((reward.score or 0.0) * reward.weight for reward in self.trajectory.rewards if not reward.by_step)

    @property
    def earned(self) -> dict[int, float]:
        """By its index, what each step earned of the rewards that tell the steps apart, by their weights."""
        found: dict[int, float] = {}
        for reward in self.trajectory.rewards:
            for index, value in reward.by_step.items():
                found[index] = found.get(index, 0.0) + value * reward.weight
        return found


@dataclass(frozen=True, slots=True)
class Estimate:
    """For each sibling, in their order, the advantages of its steps by their index. A step without one is not trained on.

    `skipped` counts, by reason, what could not be compared; it goes into the metrics as it is.
    """

    advantages: Sequence[Mapping[int, float]]
    skipped: Mapping[str, int] = field(default_factory=dict[str, int])


Estimator = Callable[[Sequence[Sibling], "Credit"], Estimate]
"""A pure function of the scored siblings of one group, two at least, and of the settings."""

ESTIMATORS: dict[str, Estimator] = {}
E = TypeVar("E", bound=Estimator)


def estimator(name: str) -> Callable[[E], E]:
    """Register a function as the estimator that `credit.use` names. Raises ConfigurationError if the name is taken."""

    def register(function: E) -> E:
        if name in ESTIMATORS:
            raise ConfigurationError(f"there is an estimator called {name!r} already; choose another name", param=name)
        ESTIMATORS[name] = function
        return function

    return register


@cache
def load_installed() -> None:
    """Import what installed packages register. Raises ConfigurationError for one that cannot be imported."""
    installed.load_installed(ENTRY_POINTS, "estimators")


def known(name: str) -> bool:
    """Whether there is an estimator of that name, here or in an installed package."""
    if name not in ESTIMATORS:
        load_installed()
    return name in ESTIMATORS
