"""ReMemR1's advantages against numbers computed by hand."""

from __future__ import annotations

import pytest

from recollect.errors import ConfigurationError
from recollect.settings import Settings
from recollect.trajectory import Trajectory
from tests.unit.trainer.siblings import call, group, siblings, trajectory
from trainer.config import TrainConfig
from trainer.credit import Credit, credit
from trainer.credit.step_groups import step_groups
from trainer.inputs import check_settings
from trainer.rewards.weights import RewardWeights

READ = Credit(use="step_groups", alpha=0.8)


def reading(name: str, match: float, *gains: float) -> Trajectory:
    steps = [call(index, "reader") for index in range(len(gains))]
    return trajectory(name, match, *steps, call(len(gains)), gains=dict(enumerate(gains)))


def test_the_outcome_counts_alpha_and_what_each_step_earned_the_rest() -> None:
    """Outcomes 1, 0, 0: advantages 2/3, -1/3, -1/3. First sections 1, 0, 0.5: 0.5, -0.5, 0. Second ones 0, 1, 0.5: -0.5, 0.5, 0."""
    found = step_groups(siblings(reading("a", 1, 1, 0), reading("b", 0, 0, 1), reading("c", 0, 0.5, 0.5)), READ)
    assert found.advantages[0] == pytest.approx({0: 0.8 * 2 / 3 + 0.2 * 0.5, 1: 0.8 * 2 / 3 - 0.2 * 0.5, 2: 0.8 * 2 / 3})
    assert found.advantages[1] == pytest.approx({0: -0.8 / 3 - 0.2 * 0.5, 1: -0.8 / 3 + 0.2 * 0.5, 2: -0.8 / 3})
    assert found.advantages[2] == pytest.approx({0: -0.8 / 3, 1: -0.8 / 3, 2: -0.8 / 3})


def test_both_parts_are_divided_by_their_own_deviation_if_asked() -> None:
    """Outcomes 1, 0 become 1, -1, and so do gains of 0.25 and 0.05."""
    found = step_groups(siblings(reading("a", 1, 0.25), reading("b", 0, 0.05)), READ.model_copy(update={"scale_by_std": True}))
    assert found.advantages[0] == pytest.approx({0: 1.0, 1: 0.8})
    assert found.advantages[1] == pytest.approx({0: -1.0, 1: -0.8})


def test_a_step_at_a_place_of_its_own_is_compared_with_nothing_and_counted() -> None:
    found = step_groups(siblings(reading("a", 1, 0, 1), reading("b", 0, 0)), READ)
    assert found.advantages[0] == pytest.approx({0: 0.4, 1: 0.4, 2: 0.4})
    assert found.skipped == {"steps_alone": 1}


def test_places_are_told_apart_by_role() -> None:
    """The second step of the one and of the other are of two modules: neither has anything to be compared with."""
    one = trajectory("a", 0, call(0, "updater"), call(1, "updater"), gains={0: 1, 1: 1})
    other = trajectory("b", 0, call(0, "updater"), call(1, "extractor"), gains={0: 0, 1: 1})
    found = step_groups(siblings(one, other), READ)
    assert found.advantages[0] == pytest.approx({0: 0.1, 1: 0.0})
    assert found.advantages[1] == pytest.approx({0: -0.1, 1: 0.0})
    assert found.skipped == {"steps_alone": 2}


def test_a_group_whose_outcome_is_flat_still_teaches_by_its_steps() -> None:
    groups = [group(reading("a", 0, 1, 0), reading("b", 0, 0, 1)), group(reading("c", 0, 0, 0), reading("d", 0, 0, 0))]
    found = credit(groups, READ)
    assert (found.num_groups, found.num_flat_outcome, found.num_flat) == (2, 2, 1)
    assert {(s.trajectory_id, s.step): s.advantage for s in found.samples} == pytest.approx(
        {("a", 0): 0.1, ("a", 1): -0.1, ("a", 2): 0.0, ("b", 0): -0.1, ("b", 1): 0.1, ("b", 2): 0.0}
    )
    assert found.by_role == pytest.approx({"reader": 0.1, "answerer": 0.0})
    assert credit(groups).num_flat == 2


def test_without_a_reward_that_tells_steps_apart_a_run_does_not_begin() -> None:
    config = TrainConfig(credit=READ)
    with pytest.raises(ConfigurationError, match=r"give rewards.information_gain or rewards.evidence_attribution one"):
        check_settings(config, Settings())
    check_settings(config.model_copy(update={"rewards": RewardWeights.model_validate({"information_gain": 1})}), Settings())
