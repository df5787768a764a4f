"""What each reward counts: weights by name, as the training configuration has them under `rewards`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainer.rewards.catalogue import NAMES

MATCH = "match"
_MATCH_BEFORE = "exact_match"
"""What `match` was called when there was one metric. A task's metric still decides how answers are compared."""


class RewardWeights(BaseModel):
    """`match` is the weight of the comparison that the task's metric names; it is scored even if it weighs nothing.

    Every other field is the name of a reward (docs/rewards.md) with its weight, at least 0; what weighs nothing is not scored.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, float] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride] - pydantic's own way
    match: float = Field(default=1.0, ge=0)
    format: float = Field(default=0.1, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or _MATCH_BEFORE not in given:
            return given
        values = dict(cast("Mapping[str, Any]", given))
        if MATCH in values:
            raise ValueError(f"give match or {_MATCH_BEFORE}, which is what it was called before, not both")
        return {MATCH: values.pop(_MATCH_BEFORE), **values}

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name, weight in self.others.items():
            if name not in NAMES:
                near = difflib.get_close_matches(name, (MATCH, *NAMES), n=1, cutoff=0.4)
                hint = f"; did you mean {near[0]!r}?" if near else ";"
                raise ValueError(f"unknown reward {name!r}{hint} known are {', '.join((MATCH, *NAMES))}")
            if not weight >= 0:
                raise ValueError(f"{name} is {weight}; a weight must be 0 or more")
        if not self.match and not any(self.others.values()):
            raise ValueError(f"one of {MATCH}, format and the other rewards must be above 0")
        return self

    @property
    def others(self) -> dict[str, float]:
        """The weights of all rewards but `match`, by name."""
        return {"format": self.format, **(self.__pydantic_extra__ or {})}

    def of(self, metric: str) -> dict[str, float]:
        """The rewards of a task that is compared by `metric`, with their weights: that one first, then what weighs something."""
        weights = {metric: self.match}
        for name, weight in self.others.items():
            if weight:
                weights[name] = weights.get(name, 0.0) + weight
        return weights
