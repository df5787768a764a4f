"""What feedback says of an answer, as a number."""

from __future__ import annotations

from collections.abc import Collection

from recollect.normalised import boxed, normalised, without_citations
from recollect.trajectory import Feedback


def compared(answer: str) -> str:
    """What of an answer is compared with a correction: what its last box holds, else all of it, normalised."""
    return normalised(without_citations(boxed(answer) or answer))


def corrected(correction: str) -> str:
    """What a correction is compared by."""
    return normalised(boxed(correction) or correction)


def worth(feedback: Feedback, *, right: bool | None) -> float | None:
    """1 or 0 by the label, or by whether the answer says what it was corrected to (`right`); else the score; None for a mere comment."""
    if feedback.correction is not None:
        return None if right is None else float(right)
    if feedback.label is not None:
        return float(feedback.label == "up")
    return feedback.score


def mean_worth(values: Collection[float]) -> float | None:
    """The mean of what was said; None where nothing was, or one said that the answer was right and another that it was wrong."""
    if not values or min(values) < 0.5 <= max(values):
        return None
    return sum(values) / len(values)
