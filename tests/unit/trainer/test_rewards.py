"""Exact match, boxes and formats."""

from __future__ import annotations

import pytest

from recollect.messages import user
from recollect.trajectory import MemoryOp, Step, Trajectory
from trainer.environments.tasks import Task
from trainer.rewards.exact_match import boxed, boxed_exact_match, exact_match, normalised, without_citations
from trainer.rewards.format import box_format, operations_format
from trainer.rewards.score import score


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


def task(kind: str = "dialogue") -> Task:
    return Task.model_validate(
        {"id": "t", "kind": kind, "agent": "memory", "request": [user("?")], "gold": ["Tarvo"], "source": "generated"}
    )


def trajectory(answer: str, *steps: Step, error: str | None = None) -> Trajectory:
    return Trajectory(
        id="x",
        tenant="local",
        namespace="user/a",
        session="s",
        agent="memory",
        agent_config_hash="",
        request=[],
        answer=answer,
        steps=list(steps),
        error=error,
    )


def test_a_rollout_is_scored_by_its_answer_and_its_operations() -> None:
    done = trajectory("Tarvo [1]", step(0, MemoryOp(op="noop", text="?", applied=False)))
    assert [(r.name, r.score, r.weight) for r in score(task(), done)] == [("exact_match", 1.0, 1.0), ("format", 0.0, 0.1)]
    assert [(r.name, r.score) for r in score(task(), trajectory("Tarvo"))] == [("exact_match", 1.0)]
    assert [(r.name, r.score) for r in score(task("reading"), trajectory("\\boxed{Tarvo}"))] == [("exact_match", 1.0), ("format", 1.0)]


def test_a_failed_rollout_is_not_scored_and_not_zero() -> None:
    failed = trajectory("", error="EngineError: gone")
    failed = failed.model_copy(update={"rewards": score(task("reading"), failed)})
    assert [r.score for r in failed.rewards] == [None, None]
    assert failed.reward is None
