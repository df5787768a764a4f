"""Scores, intervals and comparisons of an evaluation, against figures worked out by hand."""

from __future__ import annotations

import pytest

from recollect.errors import ConfigurationError
from trainer.suites.compare import compare, pairs, within
from trainer.suites.contender import Contender
from trainer.suites.metrics import boxed_all, contains_all, contains_any
from trainer.suites.results import Result
from trainer.suites.scores import Group, by_task, cell, groups, interval
from trainer.suites.sheets import interval_text

BASE, TRAINED = Contender("own", "base"), Contender("own", "memory@v1")
ALL = Group("all", "")


def result(task: str, score: float | None, *, of: Contender = BASE, repeat: int = 0, error: str | None = None, **changed: object) -> Result:
    values = {"agent": of.agent, "policy": of.policy, "task": task, "repeat": repeat, "scores": {"score": score}, "error": error}
    figures = {"calls": 1, "prompt_tokens": 100, "completion_tokens": 10, "seconds": 1.0}
    return Result.model_validate({**values, **figures, **changed})


def test_avg_at_k_is_the_mean_over_tasks_of_the_mean_over_repeats() -> None:
    # a: 1 of 2, b: 1 of 1 (the other repeat failed), c: 0 of 2. (0.5 + 1 + 0) / 3; over runs it would be 2 / 5.
    results = [
        *(result("a", 1.0), result("a", 0.0, repeat=1)),
        *(result("b", 1.0), result("b", None, repeat=1, error="EngineError: gone")),
        *(result("c", 0.0), result("c", 0.0, repeat=1)),
    ]
    found = cell(results, BASE, ALL, ["score"])
    assert found.scores["score"] is not None
    assert found.scores["score"].mean == pytest.approx(0.5)
    assert (found.num_tasks, found.num_runs, found.num_failed, found.num_unscored) == (3, 6, 1, 0)


def test_what_failed_is_counted_and_is_no_zero() -> None:
    results = [result("a", 1.0), result("b", None, error="EngineUnavailable: down", seconds=90.0, prompt_tokens=0)]
    found = cell(results, BASE, ALL, ["score"])
    assert found.scores["score"] is not None
    assert (found.scores["score"].mean, found.scores["score"].num_tasks) == (1.0, 1)
    assert (found.num_tasks, found.num_failed) == (2, 1)
    assert (found.prompt_tokens, found.p50_s) == (100, 1.0)


def test_an_unscored_answer_is_counted_apart() -> None:
    found = cell([result("a", 1.0), result("b", None)], BASE, ALL, ["score"])
    assert (found.num_failed, found.num_unscored) == (0, 1)
    assert found.scores["score"] is not None
    assert found.scores["score"].mean == 1.0


def test_where_everything_failed_there_is_no_figure() -> None:
    found = cell([result("a", None, error="x")], BASE, ALL, ["score"])
    assert found.scores == {"score": None}
    assert (found.prompt_tokens, found.calls, found.p50_s, found.p95_s) == (None, None, None, None)


def test_latency_is_in_quantiles_and_tokens_in_means() -> None:
    results = [result(f"t{i}", 1.0, seconds=float(i), prompt_tokens=i) for i in range(101)]
    found = cell(results, BASE, ALL, ["score"])
    assert (found.p50_s, found.p95_s, found.prompt_tokens) == (50.0, 95.0, 50.0)


def test_the_interval_resamples_tasks_and_not_runs() -> None:
    # Two tasks, 0 and 1: of the bootstrap's means a quarter each is 0 and 1, so the 95 % interval is the whole range,
    # however many repeats there were. Over runs it would be narrow.
    results = [result("a", 0.0, repeat=i) for i in range(50)] + [result("b", 1.0, repeat=i) for i in range(50)]
    found = interval(list(by_task(results, lambda r: r.scores["score"]).values()))
    assert found is not None
    assert (found.mean, found.low, found.high, found.num_tasks) == (0.5, 0.0, 1.0, 2)


def test_of_one_task_no_interval_is_shown() -> None:
    found = interval([1.0, None])
    assert interval_text(found) == "1.000 (one task)"
    assert interval_text(interval([1.0, 0.0])) == "0.500 (0.000 to 1.000)"
    assert interval_text(None) == "-"


def test_the_interval_of_many_tasks_is_close_to_the_normal_one() -> None:
    found = interval([float(i % 2) for i in range(400)])
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.005)


def test_groups_are_the_values_of_labels_that_tell_something() -> None:
    results = [
        result("a", 1.0, labels={"set": "one", "type": "qa", "length": "short"}),
        result("b", 1.0, labels={"set": "one", "type": "qa", "length": "long"}),
    ]
    assert [g.name for g in groups(results, ["set", "type", "length"])] == ["all", "length: short", "length: long"]
    assert cell(results, BASE, Group("length", "long"), ["score"]).num_tasks == 1


def test_a_label_that_parts_the_tasks_as_another_does_is_told_once() -> None:
    results = [result("a", 1.0, labels={"set": "one", "type": "qa"}), result("b", 1.0, labels={"set": "two", "type": "rerank"})]
    assert [g.name for g in groups(results, ["set", "type"])] == ["all", "set: one", "set: two"]


def test_a_comparison_is_paired_by_task() -> None:
    before = [result("a", 0.0), result("b", 0.5), result("only before", 1.0)]
    after = [
        result("a", 0.25, of=TRAINED, prompt_tokens=50),
        result("b", 0.75, of=TRAINED, prompt_tokens=50),
        result("failed", None, of=TRAINED, error="x"),
    ]
    found = compare(before, after, names=("base", "v1"), columns=["score"], by=[])
    assert [c.group for c in found] == ["all"]
    score, tokens = found[0].changes["score"], found[0].changes["tokens"]
    assert score is not None
    assert tokens is not None
    gap = score.difference
    assert (score.before, score.after, gap.mean, gap.low, gap.high, gap.num_tasks) == (0.25, 0.5, 0.25, 0.25, 0.25, 2)
    assert score.relative == 1.0
    assert (tokens.before, tokens.after, tokens.difference.mean) == (110, 60, -50)


def test_a_comparison_is_by_label_too() -> None:
    def side(of: Contender, short: float, long: float) -> list[Result]:
        return [result("s", short, of=of, labels={"length": "short"}), result("l", long, of=of, labels={"length": "long"})]

    found = compare(side(BASE, 0.0, 0.5), side(TRAINED, 1.0, 0.5), names=("base", "v1"), columns=["score"], by=["length"])
    gaps = {c.group: change.difference.mean for c in found if (change := c.changes["score"])}
    assert gaps == {"all": 0.5, "length: short": 1.0, "length: long": 0.0}


def test_every_later_contender_is_compared_with_the_first() -> None:
    plain = Contender("no-memory", "base")
    results = [result("a", 0.5), result("a", 1.0, of=TRAINED), result("a", 0.0, of=plain)]
    found = within(results, [BASE, TRAINED, plain], ["score"], [])
    assert [(c.before, c.after) for c in found] == [("own/base", "own/memory@v1"), ("own/base", "no-memory/base")]


def test_evaluations_without_a_common_task_cannot_be_compared() -> None:
    with pytest.raises(ConfigurationError, match="no task in common"):
        compare([result("a", 1.0)], [result("b", 1.0)], names=("x", "y"), columns=["score"], by=[])


def test_contenders_of_two_evaluations_are_paired_by_name_then_by_agent() -> None:
    plain = Contender("no-memory", "base")
    assert pairs([BASE, plain], [TRAINED, plain]) == [(plain, plain), (BASE, TRAINED)]
    assert pairs([BASE], [plain]) == [(BASE, plain)]
    with pytest.raises(ConfigurationError, match="FOLDER#AGENT/POLICY"):
        pairs([BASE, TRAINED], [plain])


def test_containment_is_rulers() -> None:
    assert contains_all("The words are Alpha, beta.", ["alpha", "beta", "gamma"]) == pytest.approx(2 / 3)
    assert (contains_any("It was Paris.", ["paris", "Rome"]), contains_any("London", ["paris"])) == (1.0, 0.0)


def test_all_or_nothing_needs_every_word_and_no_other_in_the_box() -> None:
    gold = ["alpha", "beta", "gamma"]
    assert boxed_all("So \\boxed{Gamma, alpha, beta}", gold) == 1.0
    assert boxed_all("\\boxed{alpha, beta}", gold) == 0.0
    assert boxed_all("\\boxed{alpha, beta, gamma, delta}", gold) == 0.0
    assert boxed_all("alpha, beta, gamma", gold) == 0.0
