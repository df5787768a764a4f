"""The invented world: two parts that share no value, and samples that are a pure function of their seed."""

from __future__ import annotations

import random
import re

import pytest

from trainer.seed import curriculum, dialogue, reading
from trainer.seed.world import World, part_of


def words(text: str) -> int:
    return len(text) // 3


def test_the_parts_of_the_world_share_no_value() -> None:
    drawn = {part: World(random.Random(1), part) for part in ("train", "held_out")}
    names = {part: {world.name() for _ in range(2000)} | {world.number() for _ in range(500)} for part, world in drawn.items()}
    assert not names["train"] & names["held_out"]


def test_training_samples_state_no_held_out_value() -> None:
    values = re.compile(r"(?:is|is now|called) ([A-Z][a-z]+|[0-9]+)\b")
    for step in range(20):
        for sample in curriculum.batch(7, step, 32, 0.3, words, 80):
            text = " ".join(m.content for m in sample.messages) + sample.completion
            assert all(part_of(value) == "train" for value in values.findall(text) if value not in ("Noted", "I")), text


def test_a_batch_is_a_pure_function_of_seed_and_step() -> None:
    assert curriculum.batch(7, 3, 8, 0.5, words, 80) == curriculum.batch(7, 3, 8, 0.5, words, 80)
    assert curriculum.batch(7, 3, 8, 0.5, words, 80) != curriculum.batch(7, 4, 8, 0.5, words, 80)


@pytest.mark.parametrize("num_sections", [1, 3, 6])
def test_a_document_states_its_answer_and_its_sections_fit(num_sections: int) -> None:
    for seed in range(50):
        document = reading.document(World(random.Random(seed)), num_sections, words)
        assert len(document.sections) == num_sections
        assert all(words(section) <= reading.SECTION_TOKENS for section in document.sections)
        assert document.answer in document.text


def test_without_mistakes_every_changed_fact_is_updated() -> None:
    for seed in range(200):
        sample = dialogue.operations(World(random.Random(seed)), 0.0)
        turn = sample.messages[-1].content
        if " is now " in turn and sample.completion.startswith("UPDATE"):
            value = re.search(r"is now (\w+)\.", turn)
            assert value is not None
            assert value[1] in sample.completion


def test_mistakes_change_what_is_remembered() -> None:
    right = [s.completion for s in curriculum.batch(1, 0, 400, 0.0, words, 80) if s.skill == "read_section"]
    wrong = [s.completion for s in curriculum.batch(1, 0, 400, 1.0, words, 80) if s.skill == "read_section"]
    assert right
    assert wrong
    assert sum(c == "none" for c in wrong) != sum(c == "none" for c in right)
