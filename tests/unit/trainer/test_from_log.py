"""Tasks from logged trajectories: which give one, and with what conversation and memory state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recollect.events import LoggedTrajectory
from recollect.messages import Message, user
from recollect.trajectory import Feedback, Trajectory
from trainer.environments.from_log import tasks_from_log

START = datetime(2026, 1, 1, tzinfo=UTC)
UP = {"label": "up"}


def logged(
    number: int, text: str, answer: str = "Noted.", *feedback: dict[str, Any], redacted: bool = False, **changed: Any
) -> LoggedTrajectory:
    values: dict[str, Any] = {
        "id": f"t{number}",
        "tenant": "local",
        "namespace": "user/ada",
        "session": "s",
        "agent": "memory",
        "agent_config_hash": "h",
        "request": [user(text)],
        "answer": answer,
        "created_at": START + timedelta(seconds=number),
        "memory_seq_before": {"user/ada": number},
    }
    given = [Feedback(id=f"t{number}", **one) for one in feedback]
    return LoggedTrajectory(trajectory=Trajectory.model_validate(values | changed), feedback=given, redacted=redacted)


def test_an_accepted_answer_makes_a_task_from_the_turns_before_it() -> None:
    told = [logged(1, "My dog is Tarvo.", session="monday"), logged(2, "It rains.")]
    found = tasks_from_log([*told, logged(3, "My dog?", "Tarvo [1]", UP, session="friday")], tenant="local")
    [task] = found.tasks
    assert [*(t.session for t in task.conversation), task.session] == ["monday", "s", "friday"]
    assert (task.agent, task.kind, task.source, task.gold) == ("memory", "dialogue", "logged", ("Tarvo",))
    assert [(t.messages[0].content, t.reply) for t in task.conversation] == [("My dog is Tarvo.", "Noted."), ("It rains.", "Noted.")]
    assert task.as_of == 1
    assert task.trajectory_ids == ("t1", "t2", "t3")
    assert found.left_out == {"no feedback": 2}


def test_a_correction_is_the_gold_answer() -> None:
    found = tasks_from_log([logged(1, "My dog?", "Mira", {"label": "down", "correction": "Tarvo"})], tenant="local")
    assert found.tasks[0].gold == ("Tarvo",)
    assert found.tasks[0].conversation == ()
    assert found.tasks[0].as_of == 1


def test_only_the_last_turns_are_replayed_on_the_memory_before_the_first_of_them() -> None:
    found = tasks_from_log([*(logged(i, f"turn {i}") for i in range(1, 20)), logged(20, "My dog?", "Tarvo", UP)], tenant="local", window=3)
    assert [t.messages[0].content for t in found.tasks[0].conversation] == ["turn 17", "turn 18", "turn 19"]
    assert found.tasks[0].as_of == 17


def test_turns_of_other_namespaces_and_other_agents_are_not_replayed() -> None:
    other = logged(1, "secret", namespace="user/bob", memory_seq_before={"user/bob": 4})
    read = logged(2, "Q", "\\boxed{x}", agent="reader")
    found = tasks_from_log([other, read, logged(3, "My dog?", "Tarvo", UP)], tenant="local")
    assert found.tasks[0].conversation == ()


def test_a_reader_request_is_asked_again_as_it_was_without_memory() -> None:
    found = tasks_from_log([logged(1, "doc\n\nQ?", "\\boxed{7}", UP, agent="reader", memory_seq_before={})], tenant="local")
    [task] = found.tasks
    assert (task.kind, task.agent, task.as_of, task.gold) == ("reading", "reader", None, ("7",))
    assert task.request[0].content == "doc\n\nQ?"


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (logged(1, "Q", "A", UP, redacted=True), "forgotten"),
        (logged(1, "Q", "A", UP, error="gone"), "failed"),
        (logged(1, "Q", "A", UP, consent="none"), "no consent"),
        (logged(1, "Q", "A", UP, agent="rmm"), "another agent"),
        (logged(1, "Q", "A", UP, use_memory=False), "memory was off"),
        (logged(1, "Q", "A", UP, tenant="acme"), "another tenant"),
        (logged(1, "Q", "A", UP, memory_seq_before={}), "memory state not recorded"),
        (logged(1, "Q", "A", {"comment": "hm"}), "no feedback"),
        (logged(1, "Q", "A", {"label": "down"}), "rejected without a correction"),
        (logged(1, "Q", "A", {"score": 0.2}), "rejected without a correction"),
        (logged(1, "Q", "A", UP, {"label": "down"}), "contradicting feedback"),
        (logged(1, "Q", "A", UP, {"correction": "B"}), "contradicting feedback"),
        (logged(1, "Q", "A", {"correction": "B"}, {"correction": "C"}), "contradicting feedback"),
        (logged(1, "Q", "[1]", UP), "empty answer"),
    ],
)
def test_what_gives_no_task_is_counted_by_its_reason(item: LoggedTrajectory, reason: str) -> None:
    found = tasks_from_log([item], tenant="local")
    assert found.tasks == []
    assert found.left_out == {reason: 1}


def test_a_repeated_correction_contradicts_nothing() -> None:
    found = tasks_from_log([logged(1, "Q", "A", {"correction": "the Bus"}, {"correction": "bus."})], tenant="local")
    assert found.tasks[0].gold == ("the Bus",)


def test_what_may_not_be_used_is_not_replayed_either() -> None:
    before = [logged(1, "gone", redacted=True), logged(2, "private", consent="none"), logged(3, "lost", error="x"), logged(4, "kept")]
    before.append(logged(4, "not to be remembered", use_memory=False))
    found = tasks_from_log([*before, logged(5, "My dog?", "Tarvo", UP)], tenant="local")
    assert [t.messages[0].content for t in found.tasks[0].conversation] == ["kept"]


def test_a_reading_of_a_file_is_left_out_and_counted() -> None:
    asked = [Message(role="user", content="", file_id="file-1"), user("q?")]
    found = tasks_from_log([logged(1, "", "\\boxed{1}", UP, agent="reader", request=asked)], tenant="local")
    assert found.tasks == []
    assert found.left_out == {"its document is a file": 1}
