"""How credit is assigned: which estimator, and its options."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Literal

from pydantic import Field, field_validator

from recollect.memory import Scalar
from recollect.model import Frozen
from trainer.credit.estimator import ESTIMATORS, known
from trainer.rewards.attribution import BETA


class Credit(Frozen):
    """`use` names the estimator (docs/training.md); each option says which of them reads it."""

    use: str = "broadcast"
    scale_by_std: bool = False
    """Of all: divide differences by their group's standard deviation (GRPO) or not (Dr. GRPO)."""
    alpha: float = Field(default=0.8, ge=0, le=1)
    """Of step_groups: the share of the outcome; the rest is what the step earned itself."""
    beta: float = Field(default=BETA, ge=0, le=1)
    """Of evidence: the share of the match that follows the evidence; the rest is spread evenly."""
    anchor: Literal["retrieved", "cited"] = "retrieved"
    """Of evidence: which memories are evidence. An answer that cites none anchors on what was retrieved."""
    rerolls: int = Field(default=3, ge=1)
    """Of local: siblings that are rolled out again from each intermediate memory."""
    forks: int = Field(default=1, ge=1)
    """Of local: intermediate memories of each group, at most."""
    local_weight: float = Field(default=1.0, ge=0)
    """Of local: what the advantage among re-rolled siblings counts beside the global one."""
    options: dict[str, Scalar] = Field(default_factory=dict[str, Scalar])
    """Of an estimator of one's own."""

    @field_validator("use")
    @classmethod
    def _known(cls, name: str) -> str:
        if not known(name):
            near = get_close_matches(name, ESTIMATORS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            raise ValueError(f"no estimator of credit {name!r}{hint} known are {', '.join(sorted(ESTIMATORS))}")
        return name
