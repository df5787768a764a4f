"""The schema of the trajectory log, one JSON line an event, and the fold from events to trajectories."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from recollect.model import Record
from recollect.trajectory import NEXT_TURN, SCHEMA_VERSION, Feedback, Reward, Step, Trajectory, now

EventKind = Literal["trajectory", "steps", "feedback", "reward", "redaction"]


class LogEvent(Record):
    """One line of the log. `event_id` is unique: a repeated one is dropped when folding."""

    schema_: int = Field(default=SCHEMA_VERSION, alias="schema")
    event_id: str
    trajectory_id: str
    kind: EventKind
    ts: datetime = Field(default_factory=now)
    body: dict[str, Any] = Field(default_factory=dict[str, Any])


class LoggedTrajectory(Record):
    """A trajectory as the log tells it, with the feedback given on it and whether its text was forgotten."""

    trajectory: Trajectory
    feedback: list[Feedback] = Field(default_factory=list[Feedback])
    redacted: bool = False


def teaches(event: LogEvent) -> bool:
    """True if the event may make a task of its trajectory, or another one than before: the answer itself, or what was said of it."""
    if event.kind == "reward":
        return event.body.get("metadata", {}).get("source") == NEXT_TURN
    return event.kind in ("trajectory", "feedback")


def fold(events: Iterable[LogEvent]) -> list[LoggedTrajectory]:
    """Events to trajectories, in the order in which each trajectory first appeared.

    Repeated event ids are dropped, steps ordered by index, feedback appended. A reward replaces the earlier one of the same
    name and `metadata.source`, and is appended if it names no source. `steps` carries late steps, `memory_seq_after` and
    `memory_error`; a trajectory whose `steps` event never came is complete, with `memory_seq_after` None.
    Events of a trajectory that is not in `events` are left out.
    """
    seen: set[str] = set()
    found: dict[str, LoggedTrajectory] = {}
    late: dict[str, list[LogEvent]] = {}
    for event in events:
        if event.event_id in seen:
            continue
        seen.add(event.event_id)
        if event.kind == "trajectory":
            found.setdefault(event.trajectory_id, LoggedTrajectory(trajectory=Trajectory.model_validate(event.body)))
        else:
            late.setdefault(event.trajectory_id, []).append(event)
    for trajectory_id, others in late.items():
        if trajectory_id in found:
            found[trajectory_id] = _with(found[trajectory_id], others)
    return list(found.values())


def _with(logged: LoggedTrajectory, events: list[LogEvent]) -> LoggedTrajectory:
    trajectory = logged.trajectory
    steps = {step.index: step for step in trajectory.steps}
    rewards = list(trajectory.rewards)
    feedback = list(logged.feedback)
    seq_after, memory_error = trajectory.memory_seq_after, trajectory.memory_error
    redacted = logged.redacted
    for event in events:
        if event.kind == "steps":
            steps |= {s.index: s for s in (Step.model_validate(body) for body in event.body["steps"])}
            seq_after = event.body.get("memory_seq_after", seq_after)
            memory_error = event.body.get("memory_error", memory_error)
        elif event.kind == "reward":
            rewards = _replaced(rewards, Reward.model_validate(event.body))
        elif event.kind == "feedback":
            feedback.append(Feedback.model_validate(event.body))
        elif event.kind == "redaction":
            redacted = True
    ordered = [steps[index] for index in sorted(steps)]
    update = {"steps": ordered, "rewards": rewards, "memory_seq_after": seq_after, "memory_error": memory_error}
    return LoggedTrajectory(trajectory=trajectory.model_copy(update=update), feedback=feedback, redacted=redacted)


def _replaced(rewards: list[Reward], new: Reward) -> list[Reward]:
    if (source := new.metadata.get("source")) is None:
        return [*rewards, new]
    return [*(r for r in rewards if (r.name, r.metadata.get("source")) != (new.name, source)), new]
