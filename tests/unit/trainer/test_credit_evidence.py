"""Fine-Mem's attribution as advantages, against numbers computed by hand."""

from __future__ import annotations

import pytest

from recollect.trajectory import Trajectory
from tests.unit.trainer.siblings import call, siblings, trajectory
from trainer.credit import Credit
from trainer.credit.broadcast import broadcast
from trainer.credit.evidence import attributed, evidence

FOLLOWS = Credit(use="evidence", beta=0.5)


def dialogue(name: str, match: float, *retrieved: str, others: float | None = None, cited: tuple[str, ...] = ()) -> Trajectory:
    """Two turns, each of which writes a memory, `first` and `second`; then an answer."""
    wrote = (call(0, "updater", wrote="first"), call(1, "updater", wrote="second"))
    return trajectory(name, match, *wrote, call(2, retrieved=retrieved, cited=cited), others=others)


def test_half_of_the_match_goes_to_the_step_that_wrote_what_was_retrieved() -> None:
    """T = 2. Half of 1 spread evenly over two steps is 0.25 each, half follows the evidence: 0.25 and 0.75, times T 0.5 and 1.5."""
    (one,) = siblings(dialogue("a", 1, "second"))
    assert attributed(one, FOLLOWS) == pytest.approx({0: 0.5, 1: 1.5})


def test_over_the_writing_steps_the_mean_is_the_whole_reward() -> None:
    (one,) = siblings(dialogue("a", 1, "second", "elsewhere", others=0.25))
    found = attributed(one, FOLLOWS)
    assert sum(found.values()) / 2 == pytest.approx(one.reward)
    assert found == pytest.approx({0: 0.75 + 0.25, 1: 1.25 + 0.25})


def test_steps_are_compared_with_the_siblings_step_at_the_same_place_and_the_answer_with_their_answers() -> None:
    """Rewards 1, 1, 0: the answers' advantages are 1/3, 1/3, -2/3. First steps 0.5, 1.5, 0 less 2/3, second ones 1.5, 0.5, 0 less 2/3."""
    found = evidence(siblings(dialogue("a", 1, "second"), dialogue("b", 1, "first"), dialogue("c", 0, "first")), FOLLOWS)
    assert found.advantages[0] == pytest.approx({0: 0.5 - 2 / 3, 1: 1.5 - 2 / 3, 2: 1 / 3})
    assert found.advantages[1] == pytest.approx({0: 1.5 - 2 / 3, 1: 0.5 - 2 / 3, 2: 1 / 3})
    assert found.advantages[2] == pytest.approx({0: -2 / 3, 1: -2 / 3, 2: -2 / 3})
    assert found.skipped == {"steps_alone": 0, "without_evidence": 0}


def test_what_was_cited_can_be_the_evidence_and_without_a_citation_what_was_retrieved() -> None:
    cited = FOLLOWS.model_copy(update={"anchor": "cited"})
    one, other = siblings(dialogue("a", 1, "first", "second", cited=("second",)), dialogue("b", 1, "first"))
    assert attributed(one, cited) == pytest.approx({0: 0.5, 1: 1.5})
    assert attributed(one, FOLLOWS) == pytest.approx({0: 1.0, 1: 1.0})
    assert attributed(other, cited) == pytest.approx({0: 1.5, 1: 0.5})


@pytest.mark.parametrize("scale_by_std", [False, True])
def test_without_a_share_for_the_evidence_it_is_broadcast(scale_by_std: bool) -> None:
    group = siblings(dialogue("a", 1, "second", others=1), dialogue("b", 0.5, "first", others=0), dialogue("c", 0, others=1))
    settings = FOLLOWS.model_copy(update={"beta": 0.0, "scale_by_std": scale_by_std})
    for found, plain in zip(evidence(group, settings).advantages, broadcast(group, settings).advantages, strict=True):
        assert found == pytest.approx(plain)


def test_where_no_step_writes_every_step_takes_the_trajectorys_advantage() -> None:
    found = evidence(siblings(trajectory("a", 1, call(0)), trajectory("b", 0, call(0))), FOLLOWS)
    assert found.advantages == [pytest.approx({0: 0.5}), pytest.approx({0: -0.5})]
    assert found.skipped["without_evidence"] == 2
