"""Generated tasks, and how they are mixed with those of the log."""

from __future__ import annotations

from collections import Counter

import pytest

from recollect.errors import ConfigurationError
from recollect.messages import user
from recollect.settings_read import parse
from trainer.config import TrainConfig
from trainer.curriculum import Curriculum
from trainer.environments.generated import dialogue_task, generated_tasks, reading_task
from trainer.environments.tasks import Task, Turn
from trainer.seed.world import part_of
from trainer.task_pool import Draw, FromLog, TaskPool, assemble, mixed


def length(text: str) -> int:
    return len(text) // 3


def logged(count: int) -> tuple[Task, ...]:
    return tuple(
        Task(id=f"log-{i}", kind="dialogue", agent="memory", request=(user("?"),), gold=("x",), source="logged") for i in range(count)
    )


def made(count: int) -> tuple[Task, ...]:
    return tuple(generated_tasks(count, seed="s", part="train", length=length))


def test_generated_tasks_are_a_pure_function_of_their_seed() -> None:
    assert made(6) == made(6)
    assert len({task.id for task in made(20)}) == 20
    assert sum(task.kind == "reading" for task in made(20)) == 10


@pytest.mark.parametrize("part", ["train", "held_out"])
def test_values_belong_to_the_part_that_was_asked_for(part: str) -> None:
    for i in range(30):
        task = dialogue_task(f"{i}", part)  # type: ignore[arg-type]
        assert part_of(task.gold[0]) == part
        said = " ".join(turn.messages[0].content for turn in task.conversation)
        assert task.gold[0] in said
        document = reading_task(f"{i}", part, length)  # type: ignore[arg-type]
        assert part_of(document.gold[0]) == part
        assert document.gold[0] in document.request[0].content


def test_the_document_stands_before_the_question() -> None:
    task = reading_task("1", "train", length, num_sections=4)
    assert len(task.request) == 2
    assert task.request[1].content.endswith(("?", "."))
    assert length(task.request[0].content) > 3 * 60


def test_generated_tasks_never_outnumber_the_share_of_logged_ones() -> None:
    config = TrainConfig(min_logged_share=0.75, held_out_tasks=5)
    pool = assemble(config, FromLog(logged(9), left_out={"failed": 1}), length=length, section_tokens=80)
    assert (len(pool.logged), len(pool.generated), len(pool.held_out)) == (9, 3, 5)
    assert pool.left_out == {"failed": 1}
    assert not {task.id for task in pool.training} & {task.id for task in pool.held_out}


def test_generated_tasks_alone_are_as_many_as_was_said() -> None:
    config = TrainConfig(generated_only=True, generated_tasks=20, held_out_tasks=4)
    pool = assemble(config, FromLog(), length=length, section_tokens=80)
    assert (len(pool.logged), len(pool.generated)) == (0, 20)


@pytest.mark.parametrize(("num_logged", "num_generated"), [(40, 40), (3, 3), (10, 2), (1, 0), (100, 0), (20, 60)])
def test_each_draw_keeps_the_share_and_repeats_no_task(num_logged: int, num_generated: int) -> None:
    config = TrainConfig(tasks_per_iteration=16)
    draw = Draw(TaskPool(logged(num_logged), made(num_generated), (), {}), config)
    for _ in range(10):
        tasks = draw.next()
        from_log = sum(task.source == "logged" for task in tasks)
        assert 0 < len(tasks) <= 16
        assert from_log >= len(tasks) / 2
        assert len({task.id for task in tasks}) == len(tasks)


def test_every_task_is_drawn_before_any_comes_again() -> None:
    draw = Draw(TaskPool((), made(12), (), {}), TrainConfig(tasks_per_iteration=4, generated_only=True))
    first = [task.id for _ in range(3) for task in draw.next()]
    assert len(set(first)) == 12


def of_sets(**counts: int) -> list[Task]:
    return [
        task.model_copy(update={"id": f"{name}-{i}", "labels": {"set": name}})
        for name, count in counts.items()
        for i, task in enumerate(logged(count))
    ]


@pytest.mark.parametrize(
    ("weights", "kept"),
    [({}, {"a": 10, "b": 40}), ({"a": 1, "b": 1}, {"a": 10, "b": 10}), ({"b": 2}, {"a": 10, "b": 20}), ({"a": 8}, {"a": 10, "b": 1})],
)
def test_sets_are_mixed_by_weight(weights: dict[str, float], kept: dict[str, int]) -> None:
    assert Counter(task.labels["set"] for task in mixed(of_sets(a=10, b=40), weights)) == kept


def test_a_weight_of_a_set_that_there_is_not_is_told() -> None:
    with pytest.raises(ConfigurationError, match="mix names no set of tasks: c; there are: a, b"):
        mixed(of_sets(a=1, b=1), {"c": 1})


def of_turns(count: int, name: str, *sessions: str) -> Task:
    told = tuple(Turn(messages=(user("x"),), session=sessions[i % len(sessions)] if sessions else None) for i in range(count))
    values = {"kind": "dialogue", "agent": "memory", "request": [user("?")], "gold": ["x"], "source": "generated"}
    return Task.model_validate(values | {"id": name, "conversation": told})


def test_a_curriculum_draws_short_conversations_first_and_all_in_the_end() -> None:
    tasks = tuple(of_turns(turns, f"{turns}-{i}") for turns in (2, 5, 9) for i in range(4))
    config = TrainConfig(tasks_per_iteration=4, iterations=6, generated_only=True, curriculum=Curriculum(most=(2, 5)))
    draw = Draw(TaskPool((), tasks, (), {}), config)
    longest = [max(len(task.conversation) for task in draw.next()) for _ in range(6)]
    assert longest[:2] == [2, 2]
    assert max(longest[2:4]) == 5
    assert max(longest[4:]) == 9
    assert draw.next()


def test_a_stage_with_fewer_tasks_than_are_wanted_draws_what_it_has() -> None:
    tasks = (of_turns(2, "a"), of_turns(7, "b"), of_turns(7, "c"))
    config = TrainConfig(tasks_per_iteration=3, iterations=2, generated_only=True, curriculum=Curriculum(most=(2,)))
    draw = Draw(TaskPool((), tasks, (), {}), config)
    assert [len(draw.next()), len(draw.next())] == [1, 3]


def test_conversations_may_be_counted_in_sessions() -> None:
    by_sessions = Curriculum(by="sessions", most=(1,))
    tasks = [of_turns(6, "a", "s1", "s2"), of_turns(6, "b", "s1"), of_turns(6, "c"), of_turns(0, "d")]
    assert [by_sessions.length(task) for task in tasks] == [2, 1, 1, 0]
    assert [task.id for task in by_sessions.fitting(tasks, 1)] == ["b", "c", "d"]


def test_a_curriculum_that_cannot_be_followed_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"curriculum.*most is \[8, 8\]; write whole numbers above 0, each above the one before"):
        parse(TrainConfig, {"curriculum": {"most": [8, 8]}})
    config = TrainConfig(curriculum=Curriculum(most=(3,)))
    with pytest.raises(ConfigurationError, match="begins with 3 turns, but the shortest conversation has 5"):
        Draw(TaskPool((), (of_turns(5, "a"),), (), {}), config)
