"""Which of the log's tasks a run learns from: new ones and some old, no duplicates, nobody with more than a share."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.events import LoggedTrajectory
from recollect.memory import Namespace
from recollect.messages import user
from recollect.trajectory import Feedback, Trajectory
from trainer.config import TrainConfig
from trainer.environments.from_log.filters import within_share, without_duplicates
from trainer.environments.from_log.settings import LogUse
from trainer.environments.tasks import Task
from trainer.task_pool import FromLog, from_logged

START = datetime(2026, 1, 1, tzinfo=UTC)
FLOWS = {"memory": "dialogue"}


def task(number: int, who: str = "ada", **changed: object) -> Task:
    values = {"id": f"log-{number}", "kind": "dialogue", "agent": "memory", "request": (user(f"q{number}"),), "gold": ("x",)}
    return Task.model_validate({**values, "source": "logged", "namespace": Namespace(parts=(("user", who),)), **changed})


def answered(number: int, who: str = "ada", *, label: str | None = "up") -> LoggedTrajectory:
    """A question that is asked of nothing, and the user's word that its answer is right."""
    name = f"user/{who}"
    trajectory = Trajectory(
        id=f"t{number:03}",
        tenant="local",
        namespace=name,
        session="s",
        agent="memory",
        agent_config_hash="h",
        request=[user(f"question {number} of {who}")],
        answer="yes",
        created_at=START + timedelta(seconds=number),
        memory_seq_before={name: number},
    )
    given = [Feedback.model_validate({"id": trajectory.id, "label": label})] if label else []
    return LoggedTrajectory(trajectory=trajectory, feedback=given)


def chosen(items: list[LoggedTrajectory], fresh: set[str], **use: object) -> FromLog:
    config = TrainConfig.model_validate({"held_out_logged_share": 0, "from_log": {"since": "cursor", **use}})
    return from_logged(config, items, "local", FLOWS, fresh=fresh)


def test_new_probes_are_trained_on_with_a_share_of_older_ones() -> None:
    items = [answered(number) for number in range(40)]
    fresh = {f"t{number:03}" for number in range(30, 40)}
    found = chosen(items, fresh, replay_share=0.5)
    probes = [one.trajectory_ids[-1] for one in found.training]
    assert set(probes[:10]) == fresh
    assert len(probes) == len(set(probes)) == 20
    assert found.figures | {"conversations": 0} == {"new_tasks": 10, "replayed_tasks": 10, "held_out_tasks": 0, "conversations": 0}
    assert found.training == chosen(items, fresh, replay_share=0.5).training
    assert len(chosen(items, fresh, replay_share=0).training) == 10


def test_without_anything_new_nothing_is_replayed() -> None:
    assert chosen([answered(number) for number in range(9)], set()).training == ()


def test_everything_is_trained_on_unless_the_cursor_is_asked_for() -> None:
    found = from_logged(TrainConfig(held_out_logged_share=0), [answered(number) for number in range(9)], "local", FLOWS, fresh=set())
    assert len(found.training) == 9


def test_what_is_measured_comes_from_the_whole_log_and_is_never_trained_on() -> None:
    config = TrainConfig.model_validate({"held_out_logged_share": 0.3, "from_log": {"since": "cursor", "replay_share": 0.9}})
    found = from_logged(config, [answered(number, f"user{number}") for number in range(60)], "local", FLOWS, fresh={"t059", "t058", "t057"})
    assert len(found.held_out) > 5
    assert not {one.id for one in found.held_out} & {one.id for one in found.training}


def test_only_new_trajectories_are_counted_by_reason() -> None:
    items = [answered(0, label=None), answered(1, label="down"), answered(2, label="down")]
    assert chosen(items, {"t002"}).left_out == {"rejected without a correction": 1}


def test_the_first_of_those_that_ask_the_same_stays() -> None:
    same = {"request": (user(" q1 "),), "gold": ("The X",)}
    tasks = [task(1, request=(user("q1"),)), task(2, **same), task(3, "bob", **same), task(4, gold=("y",), request=(user("q1"),))]
    found = without_duplicates(tasks)
    assert [one.id for one in found.tasks] == ["log-1", "log-3", "log-4"]
    assert [one.id for one in found.left_out] == ["log-2"]
    read = [task(number, who, kind="reading", **same) for number, who in ((1, "ada"), (2, "bob"))]
    assert len(without_duplicates(read).tasks) == 1


def test_a_flood_of_one_namespace_is_cut_to_its_share_and_counted() -> None:
    items = [answered(number, "mallory") for number in range(90)] + [answered(90 + number, f"user{number}") for number in range(9)]
    config = TrainConfig.model_validate({"held_out_logged_share": 0, "from_log": {"namespace_share": 0.4, "namespace_tasks": 0}})
    found = from_logged(config, items, "local", FLOWS)
    by_whom = Counter(str(one.namespace) for one in found.training)
    assert by_whom["user/mallory"] == 6
    assert len(found.training) == 15
    assert found.left_out == {"more than its namespace's share": 84}


@pytest.mark.parametrize(
    ("counts", "share", "kept"), [([5], 0.5, [5]), ([9, 2], 0.5, [2, 2]), ([9, 2], 0.25, [2, 2]), ([3, 3, 3], 0.1, [3, 3, 3])]
)
def test_few_namespaces_give_as_many_as_each_other(counts: list[int], share: float, kept: list[int]) -> None:
    tasks = [task(10 * who + number, f"u{who}") for who, count in enumerate(counts) for number in range(count)]
    assert list(Counter(str(one.namespace) for one in within_share(tasks, share).tasks).values()) == kept
    assert len(within_share(tasks, share, always=100).tasks) == sum(counts)


@given(st.lists(st.integers(min_value=1, max_value=30), min_size=1, max_size=12), st.floats(min_value=0.05, max_value=1))
def test_no_namespace_has_more_than_its_share_and_the_newest_stay(counts: list[int], share: float) -> None:
    tasks = [task(100 * who + number, f"u{who}") for who, count in enumerate(counts) for number in range(count)]
    kept, left_out = within_share(tasks, share)
    given = Counter(str(one.namespace) for one in kept)
    assert len(kept) + len(left_out) == len(tasks)
    assert set(given) == {f"user/u{who}" for who in range(len(counts))}
    bound = max(share, 1 / len(counts)) * len(kept)
    assert max(given.values()) <= max(1, bound + 1e-6)
    for who, count in enumerate(counts):
        newest = [f"log-{100 * who + number}" for number in range(count)][count - given[f"user/u{who}"] :]
        assert [one.id for one in kept if str(one.namespace) == f"user/u{who}"] == newest


def test_the_settings_say_which_value_is_wrong() -> None:
    with pytest.raises(ValueError, match="replay_share"):
        LogUse(replay_share=1.0)
