"""What the log itself says of an answer, as rewards: feedback, marked citations, memory operations that took effect. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from recollect.events import LoggedTrajectory
from recollect.feedback_worth import compared, corrected, mean_worth, worth
from recollect.trajectory import Feedback, Reward
from server.agents.answerer import ROLE as ANSWERER
from trainer.rewards.evidence import citation_f1
from trainer.rewards.operations import valid_operation

CONTRADICTING = "contradicting feedback"


class Signal(NamedTuple):
    """A way to score a logged trajectory: where the score is from, what it counts in the sum, how it is found (None: does not apply)."""

    source: str
    weight: float
    of: Callable[[LoggedTrajectory], tuple[float | None, str] | None]


def rewards_of(item: LoggedTrajectory, names: Collection[str]) -> list[Reward]:
    """The signals of these names that apply, each with its source and, where it could not be scored, the reason."""
    found: list[Reward] = []
    for name, signal in SIGNALS.items():
        if name in names and (value := signal.of(item)) is not None:
            score, reason = value
            metadata = {"source": signal.source} | ({"reason": reason} if reason else {})
            found.append(Reward.model_validate({"name": name, "score": score, "weight": signal.weight, "metadata": metadata}))
    return found


def _feedback(item: LoggedTrajectory) -> tuple[float | None, str] | None:
    """The mean of what was said; not scored if one said that it was right and another that it was wrong."""
    values = [value for given in item.feedback if (value := _worth(given, item.trajectory.answer)) is not None]
    if not values:
        return None
    mean = mean_worth(values)
    return (None, CONTRADICTING) if mean is None else (mean, "")


def _worth(feedback: Feedback, answer: str) -> float | None:
    right = None if feedback.correction is None else compared(answer) == corrected(feedback.correction)
    return worth(feedback, right=right)


def _citation_marks(item: LoggedTrajectory) -> tuple[float | None, str] | None:
    """F1 of what the answer cites against what users marked; 1 if both are nothing."""
    marks = [feedback.citations for feedback in item.feedback if feedback.citations is not None]
    answering = [step for step in item.trajectory.steps if step.role == ANSWERER and step.error is None]
    if not marks or not answering:
        return None
    return citation_f1([{memory} for memory in answering[-1].cited], {memory for one in marks for memory in one}), ""


def _valid_operation(item: LoggedTrajectory) -> tuple[float | None, str] | None:
    share = valid_operation(item.trajectory.steps)
    return None if share is None else (share, "")


SIGNALS: Mapping[str, Signal] = {
    "feedback": Signal("feedback", 1.0, _feedback),
    "citation_marks": Signal("feedback", 0.0, _citation_marks),
    "valid_operation": Signal("operations", 0.0, _valid_operation),
}
