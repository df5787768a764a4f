"""How the papers measure: which sets, how many questions and answers, which columns, grouped by what."""

from __future__ import annotations

from trainer.suites.metrics import metrics_of
from trainer.suites.suite import load_suite


def test_memfactory_asks_each_question_four_times_at_temperature_one_in_and_out_of_domain() -> None:
    paper, seed = load_suite("memfactory", "paper"), load_suite("memfactory", "seed")
    assert [one.name for one in paper.sets] == ["eval_50", "eval_100", "eval_fwe_16384"]
    assert [one.options["count"] for one in seed.sets] == [128] * 3
    for suite in (paper, seed):
        assert (suite.repeats, suite.sampling.temperature, suite.policies) == (4, 1.0, ("base", "current"))
        assert [one.labels["domain"] for one in suite.sets] == ["in", "in", "out"]


def test_locomo_is_reported_by_the_ids_of_its_categories_in_f1_and_bleu_1() -> None:
    suite = load_suite("conversations", "locomo")
    (questions,) = suite.sets
    assert questions.options["categories"] == ["1", "2", "3", "4"]
    assert "type" in suite.by
    assert {"f1", "bleu1"} <= set(metrics_of(suite)["locomo"].values())
