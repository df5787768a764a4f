"""The held-out split: by conversation, for ever, and nothing crosses its border."""

from __future__ import annotations

from recollect.events import LoggedTrajectory
from recollect.messages import user
from recollect.trajectory import Feedback, Trajectory
from trainer.config import TrainConfig
from trainer.environments.from_log.split import STRETCH, dialogue_of, held_out
from trainer.environments.from_log.tasks import tasks_from_log
from trainer.task_pool import from_logged

FLOWS = {"memory": "dialogue", "reader": "reading"}


def said(number: int, *, namespace: str = "user/u", session: str = "s", agent: str = "memory", text: str = "") -> LoggedTrajectory:
    trajectory = Trajectory(
        id=f"t{number}",
        tenant="local",
        namespace=namespace,
        session=session,
        agent=agent,
        agent_config_hash="h",
        request=[user(text or f"turn {number}")],
        answer=f"answer {number}",
        memory_seq_before={namespace: number},
    )
    return LoggedTrajectory(trajectory=trajectory, feedback=[Feedback(id=f"f{number}", label="up")])


def test_one_long_namespace_has_both_sides_and_no_turn_is_replayed_across_their_border() -> None:
    items = [said(number, session=f"s{number // 5}") for number in range(20 * STRETCH)]
    found = tasks_from_log(items, tenant="local", flows=FLOWS, held_out_share=0.3)
    sides: dict[bool, set[str]] = {True: set(), False: set()}
    for task in found.tasks:
        sides[task.id in found.held_out] |= set(task.trajectory_ids)
    assert sides[True].isdisjoint(sides[False])
    assert all(len(side) > 2 * STRETCH for side in sides.values())


def test_probes_of_one_conversation_are_on_one_side_and_stay_there_when_the_log_grows() -> None:
    def sides(count: int, share: float = 0.3) -> dict[str, bool]:
        items = [said(n, namespace=f"user/{n % 50}", session=f"s{n % 2}") for n in range(count)]
        found = tasks_from_log(items, tenant="local", flows=FLOWS, held_out_share=share)
        return {task.id: task.id in found.held_out for task in found.tasks}

    early, late, more = sides(200), sides(400), sides(400, share=0.5)
    assert early.items() <= late.items()
    assert any(early.values())
    assert all(more[name] for name, aside in late.items() if aside)
    for namespace in range(50):
        assert len({late[f"log-t{n}"] for n in range(namespace, 400, 50) if n // STRETCH == namespace // STRETCH}) == 1


def test_all_questions_about_one_document_are_on_one_side() -> None:
    items = [said(n, agent="reader", text=f"document {n // 4}") for n in range(200)]
    for number, item in enumerate(items):
        item.trajectory.request.append(user(f"question {number}"))
    found = tasks_from_log(items, tenant="local", flows=FLOWS, held_out_share=0.4)
    aside = [task.id in found.held_out for task in found.tasks]
    assert 40 < sum(aside) < 160
    assert all(len(set(aside[place : place + 4])) == 1 for place in range(0, 200, 4))


def test_no_more_own_tasks_are_measured_than_asked_for_and_always_the_same_first() -> None:
    items = [said(n, namespace=f"user/{n}") for n in range(300)]

    def measured(limit: int) -> list[str]:
        config = TrainConfig(held_out_logged_share=0.5, held_out_logged_tasks=limit)
        return [task.id for task in from_logged(config, items, "local", FLOWS).held_out]

    assert len(measured(20)) == 20
    assert measured(40)[:20] == measured(20)
    assert from_logged(TrainConfig(), items, "local", FLOWS).figures["held_out_tasks"] > 0


def test_the_share_of_conversations_that_is_held_out_is_the_one_asked_for() -> None:
    keys = [dialogue_of(said(0, namespace=f"user/{n}").trajectory, 0) for n in range(4000)]
    assert abs(sum(held_out(key, 0.2) for key in keys) / 4000 - 0.2) < 0.03
    assert not any(held_out(key, 0.0) for key in keys)
