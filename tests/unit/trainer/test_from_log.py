"""Tasks from logged trajectories: which give one, and with what conversation and memory state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recollect.events import LoggedTrajectory
from recollect.messages import Message, user
from recollect.trajectory import NEXT_TURN, Feedback, MemoryOp, MemoryRef, Reward, Step, Trajectory
from trainer.environments.from_log.settings import LogUse
from trainer.environments.from_log.tasks import tasks_from_log

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


def wrote(memory: str) -> list[Step]:
    return [Step(index=0, role="writer", memory_ops=[MemoryOp(op="add", id=memory, text="x")])]


def rested(*memories: str, cited: tuple[str, ...] = (), trust: str | None = "user") -> list[Step]:
    refs = [MemoryRef.model_validate({"id": name, "content_hash": "", "trust": trust}) for name in memories]
    return [Step(index=0, role="answerer", retrieved=refs, cited=list(cited))]


def test_probes_that_follow_each_other_are_asked_of_one_conversation() -> None:
    told = [logged(1, "My dog is Tarvo."), logged(2, "My cat is Mira.")]
    asked = [logged(3, "My dog?", "Tarvo", UP), logged(4, "My cat?", "Tarvo", {"correction": "Mira"}), logged(5, "Dog or cat?", "both", UP)]
    tasks = tasks_from_log([*told, *asked], tenant="local").tasks
    assert {(task.as_of, tuple(turn.id for turn in task.conversation)) for task in tasks} == {(1, ("t1", "t2"))}
    assert [task.trajectory_ids for task in tasks] == [("t1", "t2", "t3"), ("t1", "t2", "t4"), ("t1", "t2", "t5")]


def test_a_turn_that_tells_something_begins_a_new_conversation() -> None:
    items = [logged(1, "My dog is Tarvo."), logged(2, "My dog?", "Tarvo", UP), logged(3, "No, Rex."), logged(4, "My dog?", "Rex", UP)]
    tasks = tasks_from_log(items, tenant="local").tasks
    assert [[turn.id for turn in task.conversation] for task in tasks] == [["t1"], ["t1", "t2", "t3"]]


def test_a_probe_that_cites_what_an_earlier_one_said_replays_it() -> None:
    items = [logged(1, "I live in Rome. What river is there?", "Tiber", UP, steps=wrote("m1"))]
    items.append(logged(2, "Where do I live?", "Rome [1]", UP, steps=rested("m1", cited=("m1",))))
    tasks = tasks_from_log(items, tenant="local").tasks
    assert [[turn.id for turn in task.conversation] for task in tasks] == [[], ["t1"]]


def test_no_more_probes_share_a_conversation_than_was_said() -> None:
    items = [logged(number, f"q{number}", "a", UP) for number in range(1, 6)]
    tasks = tasks_from_log(items, tenant="local", use=LogUse(probes=2)).tasks
    assert [len(task.conversation) for task in tasks] == [0, 0, 2, 2, 4]
    alone = tasks_from_log(items, tenant="local", use=LogUse(probes=1)).tasks
    assert [len(task.conversation) for task in alone] == [0, 1, 2, 3, 4]


def test_what_was_asked_again_is_one_task_with_all_that_was_said_of_its_answers() -> None:
    items = [logged(1, "My dog is Tarvo."), logged(2, "My dog?", "Rex", {"label": "down"}), logged(3, "My dog?", "Tarvo", UP)]
    found = tasks_from_log([*items, logged(4, "My dog?", "Tarvo, a dog", UP)], tenant="local")
    [task] = found.tasks
    assert (task.id, task.gold, [turn.id for turn in task.conversation]) == ("log-t4", ("Tarvo", "Tarvo, a dog"), ["t1"])
    assert found.probes == {"log-t4": ("t2", "t3", "t4")}
    assert found.left_out == {"no feedback": 1, "asked again": 2}


def test_the_order_is_that_of_the_memory_and_not_of_the_clock() -> None:
    late = START - timedelta(days=400)
    items = [logged(3, "My dog?", "Tarvo", UP), logged(1, "My dog is Tarvo."), logged(2, "It rains.", created_at=late)]
    [task] = tasks_from_log(items, tenant="local").tasks
    assert [turn.id for turn in task.conversation] == ["t1", "t2"]
    assert task.as_of == 1


def test_marked_citations_are_evidence_by_the_turn_that_is_replayed_or_the_memory_that_was_there() -> None:
    told = logged(1, "My dog is Tarvo.", steps=wrote("m1"))
    found = tasks_from_log([told, logged(2, "My dog?", "Tarvo", {"label": "up", "citations": ["m1", "older"]})], tenant="local")
    assert found.tasks[0].evidence == ("t1", "older")


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        (rested("m1", trust="tool"), False),
        (rested("m1", cited=("m1",), trust="document"), False),
        (rested("m1", trust="user"), True),
        (rested("m1", trust=None), True),
        ([*rested("m1", trust="tool"), *rested("m2", cited=("m2",))], True),
    ],
)
def test_nothing_is_learned_from_what_rests_on_a_memory_that_is_not_trusted(steps: list[Step], kept: bool) -> None:
    found = tasks_from_log([logged(1, "My dog?", "Tarvo", UP, steps=steps)], tenant="local")
    assert len(found.tasks) == kept
    assert found.left_out == ({} if kept else {"rests on a memory that is not trusted": 1})
    assert len(tasks_from_log([logged(1, "Q", "A", UP, steps=steps)], tenant="local", use=LogUse(distrusted=())).tasks) == 1


@pytest.mark.parametrize(("score", "reason"), [(1.0, None), (0.0, "rejected without a correction"), (None, "no feedback")])
def test_the_next_turn_counts_only_where_it_was_asked_for(score: float | None, reason: str | None) -> None:
    item = logged(1, "Q", "A", rewards=[Reward(name="accepted", score=score, metadata={"source": NEXT_TURN})])
    found = tasks_from_log([item], tenant="local", use=LogUse(next_turn=True))
    assert [task.gold for task in found.tasks] == ([] if reason else [("A",)])
    assert found.left_out == ({reason: 1} if reason else {})
    assert tasks_from_log([item], tenant="local").left_out == {"no feedback": 1}


@pytest.mark.parametrize("flow", ["rmm", "memory-r1"])
def test_other_agents_that_converse_give_tasks_and_are_replayed(flow: str) -> None:
    flows = {"memory": "dialogue", "other": flow}
    items = [logged(1, "My dog is Tarvo.", agent="other"), logged(2, "My dog?", "Tarvo", UP), logged(3, "Dog?", "Tarvo", UP, agent="other")]
    found = tasks_from_log(items, tenant="local", flows=flows)
    assert [(task.agent, [turn.id for turn in task.conversation]) for task in found.tasks] == [("memory", ["t1"]), ("other", ["t1"])]
    alone = tasks_from_log(items, tenant="local", flows=flows, learners={"memory"})
    assert [task.agent for task in alone.tasks] == ["memory"]
    assert alone.left_out == {"another policy": 2}


def test_only_what_is_new_is_counted() -> None:
    found = tasks_from_log([logged(1, "a"), logged(2, "b")], tenant="local", counted={"t2"})
    assert found.left_out == {"no feedback": 1}
