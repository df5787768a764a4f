"""Rewards that compare an answer with gold: containment, first label, boxed equivalence, BLEU-1."""

from __future__ import annotations

import math

import pytest

from trainer.rewards.bleu import bleu1
from trainer.rewards.boxed_equivalence import boxed_equivalence, spelled
from trainer.rewards.containment import contains_all, contains_any
from trainer.rewards.first_label import first_label

ROOMS = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")


def test_ruler_counts_the_share_of_references_that_are_contained_whatever_their_case() -> None:
    assert contains_all("The numbers are 7311 and 9021.", ["7311", "9021", "4410", "1200"]) == 0.5
    assert contains_all("vrb, QLM and XEO", ["VRB", "qlm", "xeo"]) == 1.0
    assert contains_all("none", ["a1"]) == 0.0


def test_for_questions_one_contained_reference_is_enough() -> None:
    assert contains_any("It was the Denver Broncos.", ["Broncos", "Denver Broncos team"]) == 1.0
    assert contains_any("It was Carolina.", ["Denver Broncos"]) == 0.0


@pytest.mark.parametrize("measure", [contains_all, contains_any, bleu1])
def test_without_gold_there_is_nothing_to_compare_with(measure: object) -> None:
    assert callable(measure)
    with pytest.raises(ValueError, match="gold is empty"):
        measure("x", [])


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("kitchen", 1.0),
        ("Mary is in the Kitchen. Before that she was in the garden.", 1.0),
        ("She is in the kitchen or the garden.", 0.0),
        ("garden", 0.0),
        ("She went from the office to the kitchen", 1.0),
        ("I do not know.", 0.0),
        ("the kitchenette", 0.0),
        ("\n kitchen\nThe garden is elsewhere", 1.0),
    ],
)
def test_the_first_sentence_names_exactly_one_label_and_labels_of_the_question_do_not_count(answer: str, score: float) -> None:
    question = "Where was Mary after the office?"
    assert first_label(answer, ["kitchen"], question=question, choices=ROOMS) == score


def test_a_gold_answer_of_several_labels_wants_all_of_them_and_no_other() -> None:
    held = ("apple", "football", "milk", "nothing")
    assert first_label("football and apple", ["apple,football"], question="What is Daniel carrying?", choices=held) == 1.0
    assert first_label("football", ["apple,football"], question="What is Daniel carrying?", choices=held) == 0.0
    assert first_label("football, apple and milk", ["apple,football"], question="What is Daniel carrying?", choices=held) == 0.0


def test_a_label_without_its_closed_set_is_refused() -> None:
    with pytest.raises(ValueError, match="choices is empty"):
        first_label("kitchen", ["kitchen"], question="?", choices=())


@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("New York", "new  york"),
        ("\\frac{1}{2}", "0.5"),
        ("\\dfrac12", "1/2"),
        (".50", "\\tfrac{1}{2}"),
        ("1,234,500", "1234500.0"),
        ("12\\text{ cm}", "12"),
        ("12\\text{ cm}^2", "12"),
        ("\\text{Paris}", "paris"),
        ("90^\\circ", "90"),
        ("90^{\\circ}", "90°"),
        ("x = 5", "5"),
        ("\\$3.50", "3.5"),
        ("15\\%", "15"),
        ("\\left(1, 2\\right)", "(1,2)"),
        ("Paris.", "Paris"),
        ("-2/4", "-0.5"),
    ],
)
def test_spellings_of_one_value_are_equivalent(said: str, gold: str) -> None:
    assert boxed_equivalence(f"So the answer is \\boxed{{{said}}}", [gold]) == 1.0


@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("12", "13"),
        ("0423", "423"),
        ("1,23", "123"),
        ("\\frac{1}{0}", "0"),
        ("", "0"),
        ("12 and 13", "12"),
        ("\\sqrt{2}", "2"),
        ("a text", "text"),
    ],
)
def test_other_values_are_not(said: str, gold: str) -> None:
    assert boxed_equivalence(f"\\boxed{{{said}}}", [gold]) == 0.0


def test_memagent_takes_the_last_box_of_the_final_300_characters_and_the_best_gold() -> None:
    assert boxed_equivalence("\\boxed{Rome}, no: \\boxed{Oslo}", ["Bergen", "oslo"]) == 1.0
    assert boxed_equivalence("Oslo", ["Oslo"]) == 0.0
    assert boxed_equivalence("\\boxed{Oslo}" + " x" * 200, ["Oslo"]) == 0.0


def test_a_spelling_is_its_own_spelling() -> None:
    for text in ("1/3", "10000000000000000000000000001", "paris", "\\sqrt{3}", "", "a/b", "2019-05-01", "9" * 5000):
        assert spelled(spelled(text)) == spelled(text)


def test_bleu_1_of_the_examples_of_its_paper() -> None:
    references = [
        "It is a guide to action that ensures that the military will forever heed Party commands",
        "It is the guiding principle which guarantees the military forces always being under the command of the Party",
        "It is the practical guide for the army always to heed the directions of the party",
    ]
    first = "It is a guide to action which ensures that the military always obeys the commands of the party"
    second = "It is to insure the troops forever hearing the activity guidebook that party direct"
    assert bleu1(first, references) == pytest.approx(17 / 18)
    assert bleu1(second, references) == pytest.approx(8 / 14 * math.exp(1 - 16 / 14))
    cat = ["The cat is on the mat", "There is a cat on the mat"]
    assert bleu1("the the the the the the the", cat) == pytest.approx(2 / 7)


def test_bleu_1_passes_over_citations_and_is_zero_without_a_common_word() -> None:
    assert bleu1("in Oslo [1, 2]", ["In Oslo"]) == 1.0
    assert bleu1("", ["Oslo"]) == 0.0
    assert bleu1("Bergen", ["Oslo"]) == 0.0
