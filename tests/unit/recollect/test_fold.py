"""From events to trajectories: repeated, late, missing and early events."""

from __future__ import annotations

from recollect.events import LogEvent, fold
from recollect.trajectory import Reward
from tests.unit.recollect.log_cases import event_of, feedback_of, step, steps_of, trajectory


def test_a_repeated_event_counts_once() -> None:
    event, feedback = event_of(trajectory("t")), feedback_of("t", label="up")
    [logged] = fold([event, feedback, event, feedback])
    assert len(logged.feedback) == 1


def test_late_steps_are_put_in_order_and_replace_those_of_the_same_index() -> None:
    [logged] = fold(
        [
            event_of(trajectory("t", steps=2)),
            steps_of("t", [step(3), step(2)], {"user/42": 9}),
            steps_of("t", [step(1, text="amended")], {"user/42": 9}, event_id="again"),
        ]
    )
    assert [s.index for s in logged.trajectory.steps] == [0, 1, 2, 3]
    assert logged.trajectory.steps[1].text == "amended"
    assert logged.trajectory.memory_seq_after == {"user/42": 9}


def test_a_trajectory_whose_late_steps_never_came_is_complete() -> None:
    [logged] = fold([event_of(trajectory("t", steps=2))])
    assert len(logged.trajectory.steps) == 2
    assert logged.trajectory.memory_seq_after is None


def test_feedback_may_come_before_its_trajectory() -> None:
    [logged] = fold([feedback_of("t", correction="Lisbon"), event_of(trajectory("t"))])
    assert [feedback.correction for feedback in logged.feedback] == ["Lisbon"]


def test_feedback_on_an_unknown_trajectory_is_left_out() -> None:
    assert [logged.trajectory.id for logged in fold([feedback_of("gone", label="up"), event_of(trajectory("t"))])] == ["t"]


def test_rewards_are_appended_and_an_unscored_one_is_no_zero() -> None:
    rewards = [Reward(name="exact_match", score=1.0), Reward(name="judge", score=None)]
    events = [LogEvent(event_id=r.name, trajectory_id="t", kind="reward", body=r.model_dump(mode="json")) for r in rewards]
    [logged] = fold([event_of(trajectory("t")), *events])
    assert logged.trajectory.rewards == rewards
    assert logged.trajectory.reward is None


def test_trajectories_keep_the_order_of_their_first_appearance() -> None:
    events = [event_of(trajectory(name)) for name in "bca"]
    assert [logged.trajectory.id for logged in fold([*events, feedback_of("a", label="up")])] == ["b", "c", "a"]
