"""What the log says of a canary: sessions by the version that answered them, their rewards, and the log read as it grows."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recollect.canary import Canary, Figures, OpenCanary, answered_by_canary
from recollect.canary_judging import trial_of
from recollect.canary_rewards import CanaryRewards
from recollect.errors import NewerLog
from recollect.events import LogEvent
from recollect.log import LogWriter
from recollect.log_tail import LogTail
from recollect.policy import Policy
from recollect.registry import Registry
from recollect.settings import LogSettings
from recollect.trajectory import Feedback, Reward, Step, Trajectory, now
from tests.unit.recollect.test_adapters_show import made, published

IDLE = timedelta(minutes=30)
SINCE = now() - timedelta(hours=1)
ONE = OpenCanary(2, Canary(over=1, share=0.5, min_rewards=8, max_hours=48, margin=0.05, since=SINCE))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogWriter]:
    writer = LogWriter(tmp_path / "trajectories", LogSettings())
    yield writer
    writer.close()


def answered(session: str, version: int | None, *, at: datetime | None = None, alias: str = "memory", **changed: Any) -> LogEvent:
    """An answer of a version; `alias` is what the agent calls the policy by."""
    policy = Policy(base="seed", adapter="memory" if version else None, version=version)
    trajectory = Trajectory.model_validate(
        {
            "id": f"t-{session}-{changed.pop('turn', 1)}",
            "tenant": "local",
            "namespace": f"user/{session[0]}",
            "session": session,
            "agent": "memory",
            "agent_config_hash": "x",
            "request": [],
            "answer": "In Lisbon [1].",
            "created_at": at or SINCE + timedelta(minutes=1),
            "steps": [Step(index=0, role="answerer", policy=policy, alias=alias)],
        }
        | changed
    )
    return _event(trajectory.id, "trajectory", trajectory.model_dump(mode="json"))


def _event(trajectory_id: str, kind: str, body: dict[str, Any]) -> LogEvent:
    return LogEvent.model_validate({"event_id": uuid.uuid4().hex, "trajectory_id": trajectory_id, "kind": kind, "body": body})


def fed(session: str, turn: int = 1, **said: Any) -> LogEvent:
    name = f"t-{session}-{turn}"
    return _event(name, "feedback", Feedback(id=name, **said).model_dump(mode="json"))


def rewards(*events: LogEvent, one: OpenCanary = ONE) -> CanaryRewards:
    found = CanaryRewards("memory", one, "local", IDLE)
    for event in events:
        found.add(event)
    return found


def figures(*events: LogEvent, one: OpenCanary = ONE) -> Figures:
    return rewards(*events, one=one).comparison.figures()


def test_a_session_counts_once_for_the_version_that_answered_it() -> None:
    found = figures(
        answered("a", 2),
        answered("a", 2, turn=2),
        fed("a", score=1.0),
        fed("a", 2, score=0.0),
        answered("b", 1),
        fed("b", label="up"),
        answered("c", 1),
    )
    assert (found.canary.sessions, found.canary.mean) == (1, 0.5)
    assert (found.in_force.sessions, found.in_force.mean) == (1, 1.0)
    assert found.difference == -0.5


@pytest.mark.parametrize(
    ("said", "mean"),
    [
        ([{"label": "down"}], 0.0),
        ([{"score": 0.7}], 0.7),
        ([{"correction": "in Lisbon"}], 1.0),
        ([{"correction": "in Porto"}], 0.0),
        ([{"correction": ""}], None),
        ([{"comment": "hm"}], None),
        ([{"score": 0.6}, {"label": "up"}], 0.8),
        ([{"label": "up"}, {"label": "down"}], None),
    ],
)
def test_feedback_is_worth_what_the_reward_of_the_log_says(said: list[dict[str, Any]], mean: float | None) -> None:
    found = figures(answered("a", 2), *(fed("a", **one) for one in said)).canary
    assert found.mean == (None if mean is None else pytest.approx(mean))
    assert found.sessions == (mean is not None)


def test_what_users_said_next_counts_where_they_gave_no_feedback_and_a_judge_read_it() -> None:
    def next_turn(by: str, score: float | None) -> LogEvent:
        reward = Reward(name="next_turn", score=score, weight=0.0, metadata={"source": "next_turn", "by": by})
        return _event("t-a-1", "reward", reward.model_dump(mode="json"))

    assert figures(answered("a", 2), next_turn("words", 0.0)).canary.sessions == 0
    assert figures(answered("a", 2), next_turn("judge", None)).canary.sessions == 0
    assert figures(answered("a", 2), next_turn("judge", 0.0)).canary.mean == 0.0
    assert figures(answered("a", 2), next_turn("judge", 0.0), fed("a", label="up")).canary.mean == 1.0


def test_what_is_of_neither_side_does_not_count() -> None:
    early = SINCE - timedelta(minutes=5)
    found = figures(
        *(answered("both", 2), answered("both", 1, turn=2), fed("both", label="up"), fed("both", 2, label="up")),
        *(answered("early", 1, at=early), answered("early", 1, turn=2), fed("early", 2, label="up")),
        *(answered("other", 7), fed("other", label="up")),
        *(answered("base", None), fed("base", label="up")),
        *(answered("else", 2, alias="memory-answer"), fed("else", label="up")),
        *(answered("tenant", 2, tenant="acme"), fed("tenant", label="up")),
        *(answered("consent", 2, consent="none"), fed("consent", label="up")),
        fed("unknown", label="up"),
    )
    assert (found.canary.sessions, found.in_force.sessions) == (0, 0)


def test_beside_the_base_model_its_answers_are_the_other_side() -> None:
    one = OpenCanary(1, ONE.canary.model_copy(update={"over": None}))
    found = figures(answered("a", 1), fed("a", score=0.2), answered("b", None), fed("b", score=0.8), one=one)
    assert found.difference == pytest.approx(-0.6)


def test_a_policy_that_is_called_after_the_answer_is_known_by_its_late_steps() -> None:
    late = Step(index=1, role="updater", policy=Policy(base="seed", adapter="memory", version=2), alias="memory")
    events = answered("a", None, alias="memory-answer"), fed("a", label="down")
    assert figures(*events).canary.sessions == 0
    assert figures(*events, _event("t-a-1", "steps", {"steps": [late.model_dump(mode="json")]})).canary.mean == 0.0


def test_sessions_of_the_share_that_another_version_answered_stay_with_it() -> None:
    names = [f"s{number}" for number in range(20)]
    share = {("user/s", name) for name in names if answered_by_canary("memory@v2", 0.5, "local", ("user/s", name))}
    assert 0 < len(share) < 20
    assert rewards(*(answered(name, 1) for name in names)).before == share
    assert rewards(*(answered(name, 2) for name in names)).before == set()
    assert rewards(*(answered(name, 1, at=SINCE - IDLE / 2) for name in names)).before == share
    assert rewards(*(answered(name, 1, at=SINCE - 2 * IDLE) for name in names)).before == set()


def test_the_log_is_read_as_it_grows_each_event_once_also_when_it_is_packed(tmp_path: Path, log: LogWriter) -> None:
    tail = LogTail(tmp_path / "trajectories", SINCE)
    assert list(tail.new()) == []
    log.append(answered("a", 2))
    assert [event.trajectory_id for event in tail.new()] == ["t-a-1"]
    assert list(tail.new()) == []
    log.append(fed("a", label="up"))
    log.redact(["no such trajectory"])  # which closes the segment and packs it
    log.append(answered("b", 1))
    assert [(event.kind, event.trajectory_id) for event in tail.new()] == [("feedback", "t-a-1"), ("trajectory", "t-b-1")]
    assert list(tail.new()) == []


def test_a_line_that_is_being_written_is_read_when_it_is_whole_and_nonsense_is_passed_over(tmp_path: Path, log: LogWriter) -> None:
    log.append(answered("a", 2))
    [segment] = (tmp_path / "trajectories").glob("*.jsonl")
    tail = LogTail(tmp_path / "trajectories", SINCE)
    line = json.dumps(fed("a", label="up").model_dump(mode="json", by_alias=True)).encode() + b"\n"
    with segment.open("ab") as file:
        file.write(b"nonsense\n" + line[:20])
        file.flush()
        assert [event.kind for event in tail.new()] == ["trajectory"]
        file.write(line[20:])
    assert [event.kind for event in tail.new()] == ["feedback"]


def test_segments_of_long_ago_are_not_read(tmp_path: Path, log: LogWriter) -> None:
    log.append(answered("a", 2))
    assert list(LogTail(tmp_path / "trajectories", now() + timedelta(minutes=1)).new()) == []


def test_a_log_of_a_newer_version_decides_nothing(tmp_path: Path, log: LogWriter) -> None:
    log.append(answered("a", 2).model_copy(update={"schema_": 99}))
    tail = LogTail(tmp_path / "trajectories", SINCE)
    for _ in range(2):
        with pytest.raises(NewerLog, match="schema 99"):
            list(tail.new())


def test_what_nobody_rewarded_is_taken_back_when_its_time_is_over(tmp_path: Path) -> None:
    registry = published(tmp_path, 1)
    registry.publish(tmp_path / "c", made(tmp_path / "c", 2, parent=1), canary=ONE.canary)
    trial = trial_of(registry, "memory", IDLE)
    assert trial is not None
    assert trial.judge(SINCE + timedelta(hours=47)) is None
    assert registry.canary("memory") is not None
    ended = trial.judge(SINCE + timedelta(hours=48))
    assert ended is not None
    assert (ended.verdict, ended.reason) == ("rolled_back", "undecided after 48 hours: 0 rewarded sessions against 0")
    assert (registry.current("memory"), registry.canary("memory")) == (1, None)


def test_a_body_that_is_none_stops_nobody(tmp_path: Path, log: LogWriter) -> None:
    registry: Registry = published(tmp_path, 1)
    registry.publish(tmp_path / "c", made(tmp_path / "c", 2, parent=1), canary=ONE.canary)
    log.append(_event("t-x-1", "trajectory", {"tenant": "local"}))
    log.append(answered("a", 2))
    log.append(_event("t-a-1", "feedback", {"id": "t-a-1", "score": 9}))
    log.append(fed("a", label="up"))
    trial = trial_of(registry, "memory", IDLE)
    assert trial is not None
    assert trial.figures.canary.mean == 1.0
