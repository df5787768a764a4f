"""The paired bootstrap over tasks."""

from __future__ import annotations

import random

import pytest

from trainer.evaluate import Evaluation, paired_difference


def test_a_constant_gain_has_an_interval_of_one_point() -> None:
    found = paired_difference([0.25, 0.5, 0.0], [0.5, 0.75, 0.25])
    assert found is not None
    assert (found.mean, found.low, found.high, found.num_pairs) == pytest.approx((0.25, 0.25, 0.25, 3))


def test_pairs_with_an_unscored_side_are_left_out() -> None:
    found = paired_difference([0.0, None, 0.5, 0.0], [1.0, 1.0, None, 1.0])
    assert found is not None
    assert found.num_pairs == 2
    assert paired_difference([None], [1.0]) is None
    with pytest.raises(ValueError, match="longer than argument"):
        paired_difference([1.0], [1.0, 1.0])


def test_the_interval_is_the_same_for_the_same_seed_and_holds_the_mean() -> None:
    rng = random.Random(1)
    before = [rng.random() for _ in range(50)]
    after = [b + rng.gauss(0.1, 0.3) for b in before]
    found, again = paired_difference(before, after, seed=4), paired_difference(before, after, seed=4)
    assert found == again
    assert found is not None
    assert found.low < found.mean < found.high


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, covered = random.Random(2), 0
    for trial in range(200):
        differences = [rng.gauss(0.1, 0.4) for _ in range(60)]
        found = paired_difference([0.0] * 60, differences, seed=trial, resamples=500)
        assert found is not None
        covered += found.low <= 0.1 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_accuracy_is_over_scored_tasks_and_by_kind() -> None:
    found = Evaluation(
        policy="p",
        tasks=("a", "b", "c"),
        kinds=("reading", "dialogue", "reading"),
        sampled=(0.5, 1.0, None),
        greedy=(None, None, None),
        samples_per_task=4,
    )
    assert found.accuracy == 0.75
    assert found.greedy_accuracy is None
    assert found.by_kind() == {"dialogue": 1.0, "reading": 0.5}
