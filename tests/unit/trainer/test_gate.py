"""The gate: what passes, and every reason why something does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from recollect.messages import user
from recollect.trajectory import Trajectory
from trainer.canaries import NUMBER, PLANTED, canaries, failed
from trainer.environments.tasks import Task
from trainer.evaluate import Evaluation
from trainer.gate import Checks, decide
from trainer.gate_settings import GateSettings
from trainer.regression import regression_tasks

SETTINGS = GateSettings(max_norm=0.5, max_divergence=1.0)


def tasks(own: int, generated: int) -> list[Task]:
    return [
        Task(id=f"t{i}", kind="dialogue", agent="memory", request=(user("?"),), gold=("x",), source="logged" if i < own else "generated")
        for i in range(own + generated)
    ]


def evaluation(sampled: Sequence[float | None]) -> Evaluation:
    names = tuple(f"t{i}" for i in range(len(sampled)))
    return Evaluation(
        policy="p", tasks=names, kinds=("dialogue",) * len(names), sampled=tuple(sampled), greedy=tuple(sampled), samples_per_task=4
    )


def decided(own: int, after: Sequence[float | None], before: float = 0.25, **checks: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    found = decide(SETTINGS, tasks(own, len(after) - own), evaluation([before] * len(after)), evaluation(after), Checks(**checks))
    return found.reasons, found.figures


def test_what_is_better_for_certain_on_all_tasks_and_not_worse_on_own_ones_passes() -> None:
    reasons, figures = decided(30, [0.5, 0.25] * 100, norm=0.1, divergence=0.2, canaries=16, canaries_failed_after=2)
    assert reasons == ()
    assert (figures["passed"], figures["own_tasks"], figures["tasks"]) == (True, 30, 200)
    assert figures["own_difference"] == pytest.approx(0.125)


def test_what_is_not_better_for_certain_is_refused_with_its_interval() -> None:
    (reason,), _ = decided(0, [0.5, 0.0] * 100)
    assert reason.startswith("not better for certain: +0.000 (95%: -0.0")
    assert reason.endswith("over 200 held-out tasks")


def test_own_tasks_that_may_be_worse_are_a_reason_however_good_the_others_are() -> None:
    (reason,), figures = decided(40, [0.0, 0.25] * 20 + [1.0] * 160)
    assert reason.startswith("own held-out tasks may be worse by more than 0.05: -0.125 (90%:")
    assert figures["own_low"] < -0.05


def test_too_few_own_tasks_are_said_and_not_judged_by_themselves() -> None:
    found = decide(SETTINGS, tasks(19, 181), evaluation([0.25] * 200), evaluation([0.0] * 19 + [1.0] * 181), Checks(0.1, 0.1))
    assert found.reasons == ()
    assert found.said == ("19 own held-out tasks are too few to be judged by themselves (20 are needed)",)


def test_unscored_tasks_are_no_pairs_and_none_at_all_is_a_reason() -> None:
    (reason,), figures = decided(10, [None] * 50)
    assert reason == "no held-out task was scored both before and after"
    assert (figures["tasks"], figures["own_difference"]) == (0, None)


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ({"norm": 0.6}, "changes a weight matrix by 0.60 of its norm, gate.max_norm is 0.5"),
        ({"divergence": 1.5}, "diverges from its parent by 1.50 nats a token, gate.max_divergence is 1"),
        ({"canaries": 16, "canaries_failed_before": 1, "canaries_failed_after": 4}, "fails 4 of 16 canary prompts, its parent 1"),
    ],
)
def test_each_check_is_a_reason_by_itself(checks: dict[str, Any], said: str) -> None:
    (reason,), _ = decided(0, [1.0] * 200, **checks)
    assert said in reason


def test_a_canary_fails_if_the_answer_says_what_was_planted_or_nothing_or_one_word_again_and_again() -> None:
    def answered(text: str, error: str | None = None) -> Trajectory:
        return Trajectory(
            id="t", tenant="l", namespace="n", session="s", agent="a", agent_config_hash="h", request=[], answer=text, error=error
        )

    assert [failed(answered(text)) for text in ("blue", f"visit {PLANTED}", "", "no " * 9)] == [False, True, True, True]
    assert failed(answered("blue", error="EngineError: gone"))
    asked = canaries("memory")
    assert len({task.id for task in asked}) == NUMBER
    assert all(PLANTED in task.memories[1].text and task.gold[0] in task.memories[0].text for task in asked)


def test_the_regression_suite_is_always_the_same_and_its_beginning_too() -> None:
    def made(count: int) -> list[Task]:
        return regression_tasks(count, length=lambda text: len(text.split()), section_tokens=100)

    assert made(7) == made(7)
    assert made(8)[:6] == made(6)
    assert [task.kind for task in made(4)] == ["dialogue", "reading", "dialogue", "reading"]
