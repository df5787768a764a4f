"""From rewards to advantages, and what gives none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from recollect.errors import ConfigurationError
from recollect.policy import Policy
from recollect.settings_read import parse
from recollect.trajectory import Reward, Step, Trajectory, TrajectoryGroup
from trainer.config import TrainConfig
from trainer.credit import Credit, Estimate, Sibling, credit, estimator
from trainer.samples import Sample, by_length, merge_identical, within_window

POLICY = Policy(base="base", adapter="memory", candidate="r1.3")


def call(index: int, *, exact: bool = True) -> Step:
    ids = [7, 8] if exact else None
    return Step(
        index=index, role="answerer", policy=POLICY, prompt_ids=[1, 2, 3], completion_ids=ids, logprobs=[-0.5, -0.25] if ids else None
    )


def trajectory(name: str, score: float | None, *steps: Step, error: str | None = None) -> Trajectory:
    return Trajectory(
        id=name,
        tenant="local",
        namespace="user/a",
        session="s",
        agent="memory",
        agent_config_hash="",
        request=[],
        steps=list(steps or (call(0),)),
        rewards=[Reward(name="exact_match", score=score), Reward(name="format", score=score and 1.0, weight=0.1)],
        error=error,
    )


def group(*trajectories: Trajectory) -> TrajectoryGroup:
    return TrajectoryGroup(task_id="t", trajectories=list(trajectories))


def test_the_advantage_is_the_reward_less_the_groups_mean_on_every_step() -> None:
    found = credit([group(trajectory("a", 1.0, call(0), call(1)), trajectory("b", 0.0), trajectory("c", 0.0))])
    assert [(s.trajectory_id, s.step) for s in found.samples] == [("a", 0), ("a", 1), ("b", 0), ("c", 0)]
    assert [s.advantage for s in found.samples] == pytest.approx([1.1 * 2 / 3] * 2 + [-1.1 / 3] * 2)
    assert {s.policy for s in found.samples} == {"memory@runr1.3"}
    assert (found.num_groups, found.num_flat, found.num_unscored) == (1, 0, 0)


def test_division_by_the_standard_deviation_is_an_option() -> None:
    found = credit([group(trajectory("a", 1.0), trajectory("b", 0.0))], Credit(scale_by_std=True))
    assert [s.advantage for s in found.samples] == pytest.approx([1.0, -1.0])


def test_groups_that_are_all_alike_are_skipped_and_counted() -> None:
    found = credit([group(trajectory("a", 1.0), trajectory("b", 1.0)), group(trajectory("c", 0.0), trajectory("d", 0.0))])
    assert found.samples == ()
    assert (found.num_groups, found.num_flat) == (2, 2)


def test_what_was_not_scored_or_failed_is_dropped_and_counted_and_never_zero() -> None:
    found = credit([group(trajectory("a", 1.0), trajectory("b", 0.0), trajectory("c", None), trajectory("d", 0.0, error="gone"))])
    assert {s.trajectory_id: s.advantage for s in found.samples} == pytest.approx({"a": 0.55, "b": -0.55})
    assert (found.num_unscored, found.num_failed) == (2, 1)


def test_a_group_with_one_scored_trajectory_compares_nothing() -> None:
    found = credit([group(trajectory("a", 1.0), trajectory("b", None))])
    assert (found.samples, found.num_small, found.num_flat) == ((), 1, 0)


def test_calls_without_exact_tokens_are_counted_and_operations_without_a_call_are_not() -> None:
    written = Step(index=2, role="writer")
    found = credit([group(trajectory("a", 1.0, call(0), call(1, exact=False), written), trajectory("b", 0.0))])
    assert [(s.trajectory_id, s.step) for s in found.samples] == [("a", 0), ("b", 0)]
    assert found.num_untrainable == 1


def sample(prompt: tuple[int, ...], completion: tuple[int, ...], advantage: float = 1.0, policy: str = "p") -> Sample:
    return Sample(prompt, completion, tuple(-1.0 for _ in completion), advantage, policy, "t", 0)


def test_a_sample_needs_tokens_and_as_many_log_probs() -> None:
    with pytest.raises(ValueError, match="a prompt and a completion"):
        sample((1,), ())
    with pytest.raises(ValueError, match="2 log-probs for 1 tokens"):
        Sample((1,), (2,), (-1.0, -1.0), 0.0, "p", "t", 0)


def test_samples_are_sorted_by_length_and_those_beyond_the_window_counted() -> None:
    short, long = sample((1,), (2,)), sample((1, 2, 3), (4, 5))
    assert by_length([long, short]) == [short, long]
    assert within_window([long, short], 4) == ([short], 1)


def test_identical_calls_become_one_with_their_mean_advantage() -> None:
    merged = merge_identical([sample((1,), (2,), 1.0), sample((1,), (3,), 1.0), sample((1,), (2,), -0.5), sample((1,), (2,), 1.0, "q")])
    assert [(s.completion_ids, s.count, s.advantage) for s in merged] == [((2,), 2, 0.25), ((3,), 1, 1.0), ((2,), 1, 1.0)]


def test_figures_count_flat_outcomes_and_tell_the_mean_size_of_the_advantages_by_role() -> None:
    found = credit([group(trajectory("a", 1.0), trajectory("b", 0.0)), group(trajectory("c", 1.0), trajectory("d", 1.0))]).figures()
    assert (found["groups"], found["groups_flat"], found["groups_flat_outcome"], found["uncredited_calls"]) == (2, 1, 1, 0)
    assert found["advantage/answerer"] == pytest.approx(0.55)


def test_an_unknown_estimator_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"credit.use.*'evidense'; did you mean 'evidence'\? known are broadcast, evidence, local"):
        parse(TrainConfig, {"credit": {"use": "evidense"}})


def test_an_estimator_of_ones_own_is_named_like_those_that_come_with_recollect() -> None:
    """It is registered once for the whole process, so that its name is its own."""

    @estimator("first_step_alone")
    def first_step_alone(siblings: Sequence[Sibling], settings: Credit) -> Estimate:
        return Estimate([{0: one.reward * float(settings.options["factor"] or 0)} for one in siblings], {"later_steps": len(siblings)})

    settings = parse(TrainConfig, {"credit": {"use": "first_step_alone", "options": {"factor": 2.0}}}).credit
    found = credit([group(trajectory("a", 1.0, call(0), call(1)), trajectory("b", 0.0))], settings)
    assert [(s.trajectory_id, s.step, s.advantage) for s in found.samples] == [("a", 0, 2.2), ("b", 0, 0.0)]
    assert (found.num_uncredited, found.skipped) == (1, {"later_steps": 2})
    with pytest.raises(ConfigurationError, match="already"):
        estimator("first_step_alone")(first_step_alone)
