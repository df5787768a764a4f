"""The advantages of LoGo-GRPO against numbers computed by hand."""

from __future__ import annotations

import pytest

from recollect.trajectory import Forked, Step, Trajectory
from tests.unit.trainer.siblings import call, group, siblings, trajectory
from trainer.credit import Credit, credit
from trainer.credit.local import local

LOCAL = Credit(use="local")


def rolled(name: str, match: float, forked: Forked | None = None) -> Trajectory:
    """A step without a call, two calls that write, an answer."""
    steps = (Step(index=0, role="writer"), call(1, "updater"), call(2, "updater"), call(3))
    return trajectory(name, match, *steps, forked=forked)


def test_re_rolled_siblings_are_compared_with_each_other_and_with_the_one_they_were_forked_from() -> None:
    """Global: 1, 0 have the mean 1/2. Local, behind the first call of a: 1, 0, 0 have the mean 1/3."""
    fork = Forked(trajectory_id="a", calls=1)
    found = local(siblings(rolled("a", 1), rolled("b", 0), rolled("c", 0, fork), rolled("d", 0, fork)), LOCAL)
    assert found.advantages[0] == pytest.approx({0: 0.5, 1: 0.5, 2: 0.5 + 2 / 3, 3: 0.5 + 2 / 3})
    assert found.advantages[1] == pytest.approx(dict.fromkeys(range(4), -0.5))
    assert found.advantages[2] == found.advantages[3] == pytest.approx({2: -1 / 3, 3: -1 / 3})
    assert found.skipped == {"forks": 1, "forks_flat": 0, "forks_alone": 0, "groups_unforked": 0}


def test_the_local_advantage_counts_by_its_weight_and_by_its_own_deviation() -> None:
    fork = Forked(trajectory_id="b", calls=2)
    settings = LOCAL.model_copy(update={"local_weight": 0.5, "scale_by_std": True})
    found = local(siblings(rolled("a", 1), rolled("b", 0), rolled("c", 1, fork)), settings)
    assert found.advantages[1] == pytest.approx({0: -1.0, 1: -1.0, 2: -1.0, 3: -1.5})
    assert found.advantages[2] == pytest.approx({3: 0.5})


def test_forks_of_several_places_are_groups_of_their_own() -> None:
    early, late = Forked(trajectory_id="a", calls=1), Forked(trajectory_id="a", calls=2)
    found = local(siblings(rolled("a", 1), rolled("b", 1), rolled("c", 0, early), rolled("d", 0, late)), LOCAL)
    assert found.advantages[0] == pytest.approx({0: 0.0, 1: 0.0, 2: 0.5, 3: 1.0})
    assert found.skipped["forks"] == 2


def test_a_flat_group_teaches_by_its_fork_and_what_is_repeated_is_not_trained_on() -> None:
    fork = Forked(trajectory_id="a", calls=2)
    found = credit([group(rolled("a", 1), rolled("b", 1), rolled("c", 0, fork))], LOCAL)
    assert (found.num_flat_outcome, found.num_flat, found.num_uncredited) == (1, 0, 2)
    assert {(s.trajectory_id, s.step): s.advantage for s in found.samples if s.advantage} == pytest.approx({("a", 3): 0.5, ("c", 3): -0.5})


def test_forks_that_tell_nothing_and_groups_without_one_are_counted() -> None:
    fork = Forked(trajectory_id="a", calls=1)
    alike = group(rolled("a", 1), rolled("b", 0), rolled("c", 1, fork))
    alone = group(rolled("d", 1), rolled("e", 0), rolled("f", 1, Forked(trajectory_id="gone", calls=1)))
    found = credit([alike, alone, group(rolled("g", 1), rolled("h", 0))], LOCAL)
    assert found.skipped == {"forks": 2, "forks_flat": 1, "forks_alone": 1, "groups_unforked": 1}
    assert found.figures()["credit/forks_alone"] == 1
