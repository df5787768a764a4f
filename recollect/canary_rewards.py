"""What the log says of a canary: which version answered each session, what the session was rewarded with, and so what is decided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

from recollect.canary import OpenCanary, Session, answered_by_canary
from recollect.canary_figures import Comparison, SideName
from recollect.events import LogEvent
from recollect.feedback_worth import compared, corrected, mean_worth, worth
from recollect.trajectory import NEXT_TURN, Feedback


class _Answer(NamedTuple):
    """Of which session an answer is, and a digest of what corrections are compared with."""

    session: Session
    digest: bytes


class CanaryRewards:
    """Events of the log, told in its order, as the comparison of a canary with the version in force."""

    def __init__(self, policy: str, one: OpenCanary, pool: str, idle: timedelta) -> None:
        """`idle`: in which a session ends by itself."""
        canary = one.canary
        self.comparison = Comparison(min_rewards=canary.min_rewards, margin=canary.margin)
        self.before: set[Session] = set()
        """Sessions of the canary's share that another version answered before it began, or before it was loaded."""
        self._policy = policy
        self._one = one
        self._pool = pool
        self._begin = canary.since - idle
        self._early: set[Session] = set()
        self._sides: dict[Session, set[SideName]] = {}
        self._answers: dict[str, _Answer] = {}
        self._said: defaultdict[str, dict[str, float | None]] = defaultdict(dict)
        self._next: dict[str, float | None] = {}
        self._rewarded: defaultdict[Session, set[str]] = defaultdict(set)
        self._put: dict[Session, SideName] = {}

    def add(self, event: LogEvent) -> None:
        """Take an event of the log into account. One that is told twice counts once."""
        match event.kind:
            case "trajectory":
                self._answered(event)
            case "steps":
                if (answer := self._answers.get(event.trajectory_id)) is not None:
                    self._stepped(answer.session, event.body)
            case "feedback":
                self._fed(event)
            case "reward":
                self._reward(event)
            case "redaction":
                pass

    def _answered(self, event: LogEvent) -> None:
        body = event.body
        if body["tenant"] != self._pool:
            return
        at, session = datetime.fromisoformat(body["created_at"]), (body["namespace"], body["session"])
        if at < self._begin:
            return
        if at < self._one.canary.since:
            self._early.add(session)
            self._keep_before(session)
            return
        if body.get("consent") != "none":
            digest = _digest(compared(body.get("answer", "")))
            self._answers[event.trajectory_id] = _Answer(session, digest)
        self._stepped(session, body)

    def _stepped(self, session: Session, body: Mapping[str, Any]) -> None:
        """Which side the calls of an answer were on."""
        sides = self._sides.setdefault(session, set())
        known = len(sides)
        sides.update(side for step in body.get("steps", ()) if (side := self._side(step)) is not None)
        if not known and sides == {"in_force"}:
            self._keep_before(session)
        if len(sides) != known:
            self._count(session)

    def _keep_before(self, session: Session) -> None:
        name = f"{self._policy}@v{self._one.version}"
        if answered_by_canary(name, self._one.canary.share, self._pool, session):
            self.before.add(session)

    def _side(self, step: Mapping[str, Any]) -> SideName | None:
        policy = step.get("policy")
        if policy is None or step.get("alias") != self._policy:
            return None
        version = policy.get("version") if policy.get("adapter") else None
        if version == self._one.version:
            return "canary"
        return "in_force" if version == self._one.canary.over else None

    def _fed(self, event: LogEvent) -> None:
        answer = self._answers.get(event.trajectory_id)
        if answer is None:
            return
        feedback = Feedback.model_validate(event.body)
        right = None
        if feedback.correction:  # what was forgotten has an empty one, of which nobody knows whether it was right
            right = _digest(corrected(feedback.correction)) == answer.digest
        self._said[event.trajectory_id][event.event_id] = worth(feedback, right=right)
        self._rewarded[answer.session].add(event.trajectory_id)
        self._count(answer.session)

    def _reward(self, event: LogEvent) -> None:
        answer, metadata = self._answers.get(event.trajectory_id), event.body.get("metadata", {})
        if answer is None or metadata.get("source") != NEXT_TURN or metadata.get("by") != "judge":
            return
        self._next[event.trajectory_id] = event.body["score"]
        self._rewarded[answer.session].add(event.trajectory_id)
        self._count(answer.session)

    def _count(self, session: Session) -> None:
        """Tell the comparison of a session's mean. One that began before, or that both sides answered, is none of either."""
        sides = self._sides.get(session, set())
        side = next(iter(sides)) if len(sides) == 1 and session not in self._early else None
        earlier = self._put.pop(session, None)
        if earlier is not None and earlier != side:
            self.comparison.put(earlier, session, session[0], None)
        if side is None:
            return
        worths = [value for one in self._rewarded[session] if (value := self._worth(one)) is not None]
        self.comparison.put(side, session, session[0], sum(worths) / len(worths) if worths else None)
        self._put[session] = side

    def _worth(self, trajectory_id: str) -> float | None:
        """What users said of an answer; where they said nothing, what their next words said, if a judge read them."""
        if (said := self._said.get(trajectory_id)) is None:
            return self._next.get(trajectory_id)
        return mean_worth([value for value in said.values() if value is not None])


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", errors="replace"), digest_size=8).digest()
