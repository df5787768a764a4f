"""Exact match, boxes and formats."""

from __future__ import annotations

import pytest

from recollect.normalised import boxed, normalised, without_citations
from recollect.trajectory import MemoryOp, Step
from trainer.rewards.exact_match import boxed_exact_match, exact_match
from trainer.rewards.format import box_format, operations_format


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("Tarvo", "tarvo"),
        ("Tarvo [1]", "Tarvo"),
        ("Tarvo [1, 2] [3].", "Tarvo"),
        ("The  red Bus!", "a red bus"),
        ("\n 42. ", "42"),
    ],
)
def test_answers_match_whatever_their_case_articles_punctuation_and_citations(answer: str, gold: str) -> None:
    assert exact_match(answer, [gold]) == 1.0


@pytest.mark.parametrize(("answer", "gold"), [("", "Tarvo"), ("Tarvo and Mira", "Tarvo"), ("421", "42"), ("I do not know.", "Tarvo")])
def test_other_answers_do_not_match(answer: str, gold: str) -> None:
    assert exact_match(answer, [gold]) == 0.0


def test_one_of_several_gold_answers_is_enough() -> None:
    assert exact_match("NYC", ["New York", "nyc"]) == 1.0


def test_normalisation_keeps_words_that_begin_like_articles() -> None:
    assert normalised("An anthem, theatre") == "anthem theatre"
    assert without_citations("list[0] and x [12]") == "list and x"


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("\\boxed{12}", "12"),
        ("so \\boxed{1} or rather \\boxed{2}.", "2"),
        ("\\boxed{f{x}}", "f{x}"),
        ("\\boxed{a} then \\boxed{never closed", "a"),
        ("\\boxed{}", ""),
        ("no box", None),
        ("\\boxed{far away}" + " x" * 200, None),
    ],
)
def test_the_last_whole_box_of_the_final_characters_counts(text: str, inside: str | None) -> None:
    assert boxed(text) == inside
    assert box_format(text) == float(inside is not None)


def test_without_a_box_a_reader_is_wrong() -> None:
    assert boxed_exact_match("12", ["12"]) == 0.0
    assert boxed_exact_match("\\boxed{12}", ["12"]) == 1.0


def step(index: int, *ops: MemoryOp) -> Step:
    return Step(index=index, role="updater", memory_ops=list(ops))


def test_operations_that_could_not_be_read_lower_the_format() -> None:
    good, refused = MemoryOp(op="add", text="x"), MemoryOp(op="update", text="y", applied=False)
    bad, idle = MemoryOp(op="noop", text="??", applied=False), MemoryOp(op="noop")
    assert operations_format([step(0, good), step(1, refused), step(2, idle), step(3, bad)]) == 0.75
    assert operations_format([step(0, good), step(1)]) == 0.5
    assert operations_format([Step(index=0, role="answerer")]) is None
