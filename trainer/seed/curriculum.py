"""Which samples the seed model sees when: a mixture of the skills, clean first, with many mistakes in the last part."""

from __future__ import annotations

import random
from collections.abc import Callable

from trainer.seed import dialogue, reading
from trainer.seed.dialogue import Sample
from trainer.seed.drill import drill
from trainer.seed.world import World

MIXTURE = (("read_section", 0.42), ("read_answer", 0.06), ("operations", 0.24), ("answer", 0.22), ("extraction", 0.06))


def draw(world: World, mistakes: float, length: Callable[[str], int], section_tokens: int = reading.SECTION_TOKENS) -> Sample:
    """One sample of the mixture; a share `mistakes` of what should be remembered is remembered wrongly."""
    skill = world.rng.choices([name for name, _ in MIXTURE], [weight for _, weight in MIXTURE])[0]
    if skill == "read_section":
        return reading.reading_step(world, mistakes, length, section_tokens)
    if skill == "read_answer":
        return reading.reading_answer(world)
    if skill == "operations":
        return dialogue.operations(world, mistakes)
    if skill == "answer":
        return dialogue.answer(world, mistakes / 4)
    return dialogue.extraction(world)


def batch(
    seed: int, step: int, size: int, mistakes: float, length: Callable[[str], int], section_tokens: int, drills: float = 0.0
) -> list[Sample]:
    """The samples of one training step: a pure function of its arguments, so that a build can be resumed.

    A share `drills` of them are recall drills, and then sections are of different lengths up to `section_tokens`.
    """
    world = World(random.Random(f"{seed}/{step}"))
    samples: list[Sample] = []
    for _ in range(size):
        if drills and world.rng.random() < drills:
            samples.append(drill(world))
        else:
            tokens = world.rng.choice((section_tokens, section_tokens // 2)) if drills else section_tokens
            samples.append(draw(world, mistakes, length, tokens))
    return samples
