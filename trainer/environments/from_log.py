"""Tasks from logged trajectories: an earlier conversation as input, a later question with a known right answer as the probe."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from recollect.events import LoggedTrajectory
from recollect.memory import Namespace
from recollect.trajectory import Feedback, Trajectory
from trainer.environments.tasks import Task, Turn
from trainer.rewards.exact_match import boxed, normalised, without_citations

WINDOW = 12
"""Turns before the probe that are replayed at most."""
DIALOGUE, READING = "dialogue", "reading"
FLOWS = {"memory": DIALOGUE, "reader": READING}
"""What the agents do whose trajectories give tasks, by their ids."""


class LoggedTasks(NamedTuple):
    """The tasks, oldest probe first, and how many trajectories gave none, by reason."""

    tasks: list[Task]
    left_out: dict[str, int]


class _Refused(Exception):
    """Why a trajectory gives no task."""


def tasks_from_log(
    logged: Sequence[LoggedTrajectory], *, tenant: str, window: int = WINDOW, flows: Mapping[str, str] = FLOWS
) -> LoggedTasks:
    """A task for each trajectory of the tenant whose answer was accepted or corrected, by an agent that `flows` names.

    A dialogue's probe replays up to `window` earlier turns of its namespace on the memory as it was before the first of
    them. A reader's probe is asked again as it was.
    """
    tasks: list[Task] = []
    left_out: Counter[str] = Counter()
    earlier: dict[str, list[Trajectory]] = defaultdict(list)
    for item in sorted(logged, key=lambda one: one.trajectory.created_at):
        trajectory = item.trajectory
        if trajectory.tenant != tenant:
            left_out["another tenant"] += 1
            continue
        before = earlier[trajectory.namespace][-window:] if window else []
        try:
            flow = flows.get(trajectory.agent, "")
            _usable(item, flow)
            if flow == DIALOGUE:
                earlier[trajectory.namespace].append(trajectory)
            tasks.append(_task(item, before, flow))
        except _Refused as refused:
            left_out[str(refused)] += 1
    return LoggedTasks(tasks, dict(left_out))


def _usable(item: LoggedTrajectory, flow: str) -> None:
    trajectory = item.trajectory
    if item.redacted:
        raise _Refused("forgotten")
    if trajectory.consent == "none":
        raise _Refused("no consent")
    if trajectory.error is not None:
        raise _Refused("failed")
    if flow == DIALOGUE and not trajectory.use_memory:
        raise _Refused("memory was off")


def _task(item: LoggedTrajectory, before: list[Trajectory], flow: str) -> Task:
    trajectory = item.trajectory
    if flow not in (DIALOGUE, READING):
        raise _Refused("another agent")
    if any(message.file_id for message in trajectory.request):
        raise _Refused("its document is a file")
    gold = _gold(trajectory, item.feedback)
    namespace = Namespace.parse(trajectory.namespace, tenant=trajectory.tenant)
    if flow == READING:
        return Task(
            id=f"log-{trajectory.id}",
            kind="reading",
            agent=trajectory.agent,
            namespace=namespace,
            request=tuple(trajectory.request),
            gold=(gold,),
            source="logged",
            trajectory_ids=(trajectory.id,),
        )
    first = before[0] if before else trajectory
    as_of = first.memory_seq_before.get(trajectory.namespace)
    if as_of is None:
        raise _Refused("memory state not recorded")
    return Task(
        id=f"log-{trajectory.id}",
        kind="dialogue",
        agent=trajectory.agent,
        namespace=namespace,
        as_of=as_of,
        conversation=tuple(Turn(messages=tuple(t.request), reply=t.answer, session=t.session, at=t.created_at) for t in before),
        request=tuple(trajectory.request),
        session=trajectory.session,
        at=trajectory.created_at,
        gold=(gold,),
        source="logged",
        trajectory_ids=(*(t.id for t in before), trajectory.id),
    )


def _gold(trajectory: Trajectory, feedback: Sequence[Feedback]) -> str:
    """The right answer by the feedback. Raises _Refused if there is none, or feedback contradicts itself."""
    if not feedback:
        raise _Refused("no feedback")
    said = [_plain(f.correction) for f in feedback if f.correction is not None]
    corrections = {normalised(text): text for text in reversed(said)}
    accepted = any(f.accepted for f in feedback)
    rejected = any(_rejected(f) for f in feedback)
    if len(corrections) > 1 or (accepted and (corrections or rejected)):
        raise _Refused("contradicting feedback")
    if not corrections and not accepted:
        raise _Refused("rejected without a correction" if rejected else "no feedback")
    gold = next(iter(corrections.values())) if corrections else _plain(trajectory.answer)
    if not normalised(gold):
        raise _Refused("empty answer")
    return gold


def _rejected(feedback: Feedback) -> bool:
    if feedback.correction is not None:
        return False
    return feedback.label == "down" or (feedback.label is None and feedback.score is not None and feedback.score < 0.5)


def _plain(answer: str) -> str:
    inside = boxed(answer)
    return without_citations(inside if inside is not None else answer)
