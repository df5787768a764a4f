"""What the log says of an answer: which one would have been right, and which memories it should rest on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from recollect.events import LoggedTrajectory
from recollect.normalised import boxed, normalised, without_citations
from recollect.trajectory import NEXT_TURN, Feedback, Trajectory
from server.agents.answerer import ROLE as ANSWERER
from trainer.environments.tasks import Turn


class Refused(Exception):
    """Why a trajectory gives no task."""


def gold_of(siblings: Sequence[LoggedTrajectory], *, next_turn: bool) -> tuple[str, ...]:
    """The right answers to one request, by what was said of each answer it was given. Raises Refused.

    An answer that was accepted and one that was corrected to the same are one. Of several answers one accepted is enough.
    """
    found: dict[str, str] = {}
    refusals: list[Refused] = []
    for item in siblings:
        try:
            gold = _said(item, next_turn=next_turn)
        except Refused as refused:
            refusals.append(refused)
        else:
            found.setdefault(normalised(gold), gold)
    if not found:
        raise max(refusals, key=lambda refused: refused.args[0] != NO_FEEDBACK)
    return tuple(found.values())


NO_FEEDBACK = "no feedback"


def _said(item: LoggedTrajectory, *, next_turn: bool) -> str:
    """The right answer by what was said of one. Raises Refused if nobody said it, or two contradict each other."""
    trajectory, feedback = item.trajectory, item.feedback
    said = [_plain(f.correction) for f in feedback if f.correction is not None]
    corrections = {normalised(text): text for text in reversed(said)}
    accepted = any(f.accepted for f in feedback)
    rejected = any(_rejected(f) for f in feedback)
    if len(corrections) > 1 or (accepted and (corrections or rejected)):
        raise Refused("contradicting feedback")
    if next_turn and not (corrections or accepted or rejected) and (score := _taken(trajectory)) is not None:
        accepted, rejected = score >= 0.5, score < 0.5
    if not corrections and not accepted:
        raise Refused("rejected without a correction" if rejected else NO_FEEDBACK)
    gold = next(iter(corrections.values())) if corrections else _plain(trajectory.answer)
    if not normalised(gold):
        raise Refused("empty answer")
    return gold


def marked(siblings: Sequence[LoggedTrajectory], before: Iterable[Trajectory], turns: Iterable[Turn]) -> tuple[str, ...]:
    """The evidence that users marked: of each memory the turn that wrote it, where that is replayed, else its own id."""
    replayed = {turn.id for turn in turns}
    wrote = writers(t for t in before if t.id in replayed)
    ids = [memory for item in siblings for feedback in item.feedback for memory in feedback.citations or ()]
    return tuple(dict.fromkeys(wrote.get(memory, memory) for memory in ids))


def writers(trajectories: Iterable[Trajectory]) -> Mapping[str, str]:
    """By memory, the trajectory that wrote it last."""
    return {op.id: t.id for t in trajectories for step in t.steps for op in step.memory_ops if op.id and op.applied and op.op != "noop"}


def rests_on(trajectory: Trajectory) -> list[tuple[str, str | None]]:
    """Id and trust of the memories that an answer rests on: those that it cites, or all it was shown if it cites none."""
    found: dict[str, tuple[str, str | None]] = {}
    cited: set[str] = set()
    for step in trajectory.steps:
        if step.role == ANSWERER and step.error is None:
            found |= {ref.id: (ref.id, ref.trust) for ref in step.retrieved}
            cited |= set(step.cited)
    return [one for memory, one in found.items() if not cited or memory in cited]


def _taken(trajectory: Trajectory) -> float | None:
    """How the user's next turn took the answer; None if nobody looked, or it does not tell."""
    return next((r.score for r in trajectory.rewards if r.metadata.get("source") == NEXT_TURN), None)


def _rejected(feedback: Feedback) -> bool:
    if feedback.correction is not None:
        return False
    return feedback.label == "down" or (feedback.label is None and feedback.score is not None and feedback.score < 0.5)


def _plain(answer: str) -> str:
    inside = boxed(answer)
    return without_citations(inside if inside is not None else answer)
