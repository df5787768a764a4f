"""What the benchmarks of training iterations are given and how their figures are made; nothing is timed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from benchmarks.cost import Point, by_varied, drawn, exponent, settings
from benchmarks.iteration import rate
from benchmarks.iteration_ours import samples
from benchmarks.long_prompts import long_prompts
from benchmarks.trained import prompts_by_iteration, tokens_by_iteration
from recollect.policy import Policy
from recollect.trajectory import Step, Trajectory
from trainer.recorded import RecordedRollout
from trainer.samples import merge_identical


def rollout(iteration: int, task: int, sibling: int, num_calls: int) -> RecordedRollout:
    """Each call's prompt tells where it comes from."""
    steps = [
        Step(index=i, role="reader", policy=Policy(base="b"), prompt_ids=[iteration, task, sibling, i], completion_ids=[7], logprobs=[0.0])
        for i in range(num_calls)
    ]
    name = f"{iteration}/{task}/{sibling}"
    made = Trajectory(
        id=name, tenant="local", namespace="user/a", session="s", agent="reader", agent_config_hash="", request=[], steps=steps
    )
    return RecordedRollout(f"{iteration:04}", task, sibling, made)


def test_the_stock_trainer_gets_the_prompts_of_one_sibling_of_each_task() -> None:
    rolled = [rollout(iteration, task, sibling, 2) for iteration in (3, 2) for task in (1, 0) for sibling in (1, 0)]
    first, second = prompts_by_iteration(rolled)
    assert first == [[2, 0, 0, 0], [2, 0, 0, 1], [2, 1, 0, 0], [2, 1, 0, 1]]
    assert [prompt[0] for prompt in second] == [3] * 4


def test_a_sibling_that_failed_is_stood_for_by_the_next_and_all_iterations_have_as_many_prompts() -> None:
    rolled = [rollout(2, 0, 1, 4), rollout(2, 1, 0, 4), rollout(3, 0, 0, 4), rollout(3, 1, 0, 3)]
    first, second = prompts_by_iteration(rolled, multiple=2)
    assert first[0] == [2, 0, 1, 0]
    assert len(first) == len(second) == 6


def test_tokens_are_those_of_prompts_and_completions() -> None:
    assert tokens_by_iteration([rollout(2, 0, 0, 2), rollout(2, 0, 1, 1), rollout(3, 0, 0, 1)]) == {2: 15, 3: 5}


def test_a_rate_is_of_the_sums() -> None:
    assert rate([{"calls": 10, "seconds": 1.0}, {"calls": 10, "seconds": 4.0}], "calls", "seconds") == pytest.approx(4.0)


def test_the_samples_of_an_update_alone_differ_all() -> None:
    made = samples([[5, 6], [5, 6, 7]], 8, 16, vocabulary=1280)
    assert len(merge_identical(made)) == len(made) == 16
    assert sum(one.advantage for one in made) == 0
    assert all(3 <= token < 1280 for one in made for token in one.completion_ids)


def test_long_prompts_have_the_length_that_is_asked_for_and_differ() -> None:
    one, other = long_prompts(2, 2_000)
    assert len(one) == len(other) == 2_000
    assert one != other


def test_each_line_of_the_costs_begins_at_the_common_setting_and_none_is_measured_twice() -> None:
    points = settings()
    assert len({point.setting for point in points}) == len(points) == 8
    lines = by_varied([replace(point, tokens=point.group * point.section * point.sections) for point in points])
    assert {name: len(line) for name, line in lines.items()} == {"siblings": 3, "tokens of a section": 4, "sections": 3}


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
def test_the_exponent_is_that_of_a_power_law(power: float) -> None:
    points = [Point("", 8, 80, 3, 1000, 3 * 1000**power), *(Point("siblings", 8, 80, 3, n, 3 * n**power) for n in (2000, 4000, 9000))]
    assert exponent(points) == pytest.approx(power)
    assert drawn(points).axes[0].get_xscale() == "log"


def test_a_setting_that_trained_on_nothing_is_no_point_of_the_updates_line() -> None:
    points = [Point("", 8, 80, 3, row_tokens=tokens, update_s=2.0 * tokens) for tokens in (0.0, 100.0, 300.0)]
    assert exponent(points, "row_tokens", "update_s") == pytest.approx(1.0)
    assert math.isnan(exponent(points[:2], "row_tokens", "update_s"))
