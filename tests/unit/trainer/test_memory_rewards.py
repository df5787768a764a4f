"""Rewards of what was done with memories: operations, citations, information gain, attribution, retrieval, compression, cost."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.policy import Policy
from recollect.trajectory import MemoryOp, Step
from trainer.rewards.attribution import Question, evidence_attribution
from trainer.rewards.citation import citation, citation_bonus, citation_signs
from trainer.rewards.compression import compression
from trainer.rewards.cost import left_over
from trainer.rewards.evidence import evidence_ndcg, evidence_recall
from trainer.rewards.information_gain import information_gain, word_recall
from trainer.rewards.operations import valid_operation

POLICY = Policy(base="scripted")


def updater(index: int, *ops: MemoryOp, policy: Policy | None = POLICY, error: str | None = None) -> Step:
    return Step(index=index, role="updater", policy=policy, memory_ops=list(ops), error=error)


def test_operations_that_were_refused_or_unreadable_are_not_valid_and_a_wanted_noop_is() -> None:
    added, refused = MemoryOp(op="add", text="x"), MemoryOp(op="update", text="y", applied=False)
    unread, idle = MemoryOp(op="noop", text="??", applied=False), MemoryOp(op="noop")
    assert valid_operation([updater(0, added, refused), updater(1, unread, idle)]) == 0.5
    assert valid_operation([updater(0, added), updater(1)]) == 0.5


def test_only_the_policys_own_operations_count() -> None:
    without_a_model = Step(index=0, role="writer", memory_ops=[MemoryOp(op="add", text="x")])
    assert valid_operation([without_a_model, Step(index=1, role="answerer", policy=POLICY)]) is None
    assert valid_operation([updater(0, error="EngineError: gone")]) is None
    of_another_agent = Step(index=0, role="manager", policy=POLICY, memory_ops=[MemoryOp(op="delete", applied=False)])
    assert valid_operation([of_another_agent]) == 0.0


def test_rmm_gives_plus_one_to_each_cited_memory_and_minus_one_to_each_other() -> None:
    assert citation_signs(["a", "b", "c"], {"c", "a"}) == [1, -1, 1]
    assert citation(["a", "b", "c"], {"c", "a"}) == pytest.approx(1 / 3)
    assert citation(["a"], []) == -1.0
    assert citation([], ["a"]) is None


def test_the_bonus_is_an_eighth_a_cited_memory_up_to_one_and_only_for_a_right_answer() -> None:
    shown = [f"m{i}" for i in range(12)]
    assert citation_bonus(shown, ["m1", "m2", "m2", "elsewhere"], right=True) == 0.25
    assert citation_bonus(shown, shown, right=True) == 1.0
    assert citation_bonus(shown, shown, right=False) == 0.0


def test_word_recall_is_the_share_of_the_best_gold_answers_words() -> None:
    assert word_recall("the Eiffel Tower, built for a fair", ["Eiffel Tower in Paris"]) == 0.5
    assert word_recall("Paris", ["Eiffel Tower", "in Paris"]) == 0.5
    assert word_recall("", ["Paris"]) == 0.0


def test_each_reading_step_earns_what_its_memory_gained_and_pays_for_what_it_lost() -> None:
    memories = ["nothing yet", "the code begins with red", "the code is red seven", "seven was mentioned"]
    assert information_gain(memories, ["red seven"]) == [0.0, 0.5, 0.5, -0.5]
    assert information_gain(["red seven"], ["red seven"], before="red") == [0.5]
    assert information_gain([], ["red"]) == []


def test_fine_mem_splits_half_evenly_and_half_by_what_was_retrieved() -> None:
    found = evidence_attribution([0, 1, 2], {"a": 0, "b": 2, "c": 1}, [Question(1.0, ("a", "b"))])
    assert found == pytest.approx({0: 0.5 / 3 + 0.25, 1: 0.5 / 3, 2: 0.5 / 3 + 0.25})


def test_several_questions_are_attributed_in_equal_parts() -> None:
    questions = [Question(1.0, ("a",)), Question(0.0, ("b",)), Question(0.5, ("a", "b"))]
    found = evidence_attribution([3, 7], {"a": 3, "b": 7}, questions, beta=1.0)
    assert found == pytest.approx({3: 1 / 3 + 0.25 / 3, 7: 0.25 / 3})


memories = st.integers(0, 9).map(str)


@given(
    steps=st.lists(st.integers(0, 6), min_size=1, max_size=5, unique=True),
    writers=st.dictionaries(memories, st.integers(0, 8)),
    questions=st.lists(st.builds(Question, st.floats(0, 1), st.lists(memories, max_size=5).map(tuple)), min_size=1, max_size=5),
    beta=st.floats(0, 1),
)
def test_attributed_rewards_sum_to_the_mean_score_whatever_was_retrieved(
    steps: list[int], writers: dict[str, int], questions: list[Question], beta: float
) -> None:
    found = evidence_attribution(steps, writers, questions, beta=beta)
    assert set(found) == set(steps)
    assert sum(found.values()) == pytest.approx(sum(q.score for q in questions) / len(questions))
    assert min(found.values()) >= -1e-9


def test_attribution_needs_somebody_to_attribute_to() -> None:
    with pytest.raises(ValueError, match="a step that writes"):
        evidence_attribution([], {}, [Question(1.0, ())])


def ranking(*ids: str) -> list[set[str]]:
    return [{name} for name in ids]


def test_recall_and_ndcg_of_a_ranking() -> None:
    ranked = ranking("x", "a", "y", "b", "c", "d")
    assert evidence_recall(ranked, ["a", "b", "c", "d"], k=5) == 0.75
    assert evidence_recall(ranked, ["a", "a"], k=1) == 0.0
    gained = 1 / math.log2(3) + 1 / math.log2(5)
    assert evidence_ndcg(ranked, ["a", "b"], k=5) == pytest.approx(gained / (1 + 1 / math.log2(3)))
    assert evidence_ndcg(ranking("a", "b"), ["b", "a"]) == 1.0
    assert evidence_ndcg([], ["a"]) == 0.0


def test_ndcg_of_one_session_found_twice_counts_its_first_place_alone() -> None:
    assert evidence_ndcg(ranking("s1", "s1", "s2"), ["s1"]) == 1.0
    assert evidence_ndcg(ranking("s2", "s1", "s1"), ["s1"]) == pytest.approx(1 / math.log2(3))


def test_of_more_evidence_than_places_the_places_are_the_best_that_can_be() -> None:
    assert evidence_ndcg(ranking("a", "b"), ["a", "b", "c"], k=2) == 1.0


def test_a_memory_that_was_merged_from_several_turns_holds_the_evidence_of_each() -> None:
    merged = [{"m1", "D1:3", "D2:1"}, {"m2", "D2:1"}]
    assert evidence_recall(merged, ["D1:3", "D2:1"], k=1) == 1.0
    assert evidence_ndcg(merged, ["D1:3", "D2:1"], k=1) == 1.0
    assert evidence_ndcg(list(reversed(merged)), ["D1:3", "D2:1"]) == 1.0


@pytest.mark.parametrize("measure", [evidence_recall, evidence_ndcg])
def test_without_evidence_retrieval_is_not_measured(measure: object) -> None:
    assert callable(measure)
    with pytest.raises(ValueError, match="evidence is empty"):
        measure([{"a"}], [])


def test_compression_is_the_share_that_was_left_out() -> None:
    assert compression("x" * 25, "y" * 100) == 0.75
    assert compression("x" * 100, "y" * 100) == 0.0
    assert compression("x" * 900, "y" * 100) == -1.0
    assert compression("", "y") == 1.0
    assert compression("x", "") is None


def test_a_cost_is_what_is_left_of_its_budget() -> None:
    assert left_over(25, 100) == 0.75
    assert left_over(0, 100) == 1.0
    assert left_over(250, 100) == 0.0
    with pytest.raises(ValueError, match="above 0"):
        left_over(1, 0)
