"""How an answer may be compared with gold, by the name that `Task.metric` has for it; and what any reward comes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from trainer.rewards.boxed_equivalence import boxed_equivalence
from trainer.rewards.case import Case
from trainer.rewards.containment import contains_all, contains_any
from trainer.rewards.exact_match import boxed_exact_match, exact_match
from trainer.rewards.f1 import token_f1
from trainer.rewards.first_label import first_label


class Value(NamedTuple):
    """A score, what each step earned of it where that is known, and why there is none (`score` None: not scored, and counted)."""

    score: float | None
    by_step: Mapping[int, float] = {}
    reason: str | None = None


Measure = Callable[[Case], Value | float | None]
"""None: the reward does not apply to this kind of rollout, and is left out."""


def value_of(measured: Value | float | None) -> Value | None:
    """A plain number as a value."""
    return Value(float(measured)) if isinstance(measured, float | int) else measured


def _exact_match(case: Case) -> float:
    return (boxed_exact_match if case.task.kind == "reading" else exact_match)(case.said, case.task.gold)


def _first_label(case: Case) -> Value | float:
    if not case.task.choices:
        return Value(None, reason="the task names no choices")
    return first_label(case.named, case.task.gold, question=case.question, choices=case.task.choices)


METRICS: Mapping[str, Measure] = {
    "exact_match": _exact_match,
    "boxed": lambda case: boxed_equivalence(case.said, case.task.gold),
    "contains_all": lambda case: contains_all(case.named, case.task.gold),
    "contains_any": lambda case: contains_any(case.named, case.task.gold),
    "f1": lambda case: token_f1(case.said, case.task.gold),
    "first_label": _first_label,
}


def main_match(case: Case) -> Value:
    """How well the answer matches gold, as the task's metric compares them."""
    return value_of(METRICS[case.task.metric](case)) or Value(None, reason=f"{case.task.metric} does not apply")
