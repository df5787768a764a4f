"""Frequent words in the invented world: which value a document names most often. No skill of the seed model counts.

It is to a model of that world what RULER's frequent words are to one of English: another question about like documents. The
seed model finds the answer now and then (25 % of 64 at temperature 1), since it keeps one of the values that it was told.
"""

from __future__ import annotations

import random

from recollect.messages import user
from trainer.environments.generated_section import filled
from trainer.environments.longcontext.fit import Length
from trainer.environments.tasks import Task
from trainer.seed import reading
from trainer.seed.world import Part, World

ASKED = "What is the most frequent {a} of {e}?"
TIMES = (3, 1, 1)
"""How often the value asked for is named, and the others."""


def frequent_task(seed: str, part: Part, length: Length, *, num_sections: int = 3, section_tokens: int = reading.SECTION_TOKENS) -> Task:
    """A document that names one value of a place's attribute three times and two others once, evenly over its sections."""
    world = World(random.Random(f"frequent/{num_sections}/{part}/{seed}"), part)
    rng = world.rng
    asked = reading.place_fact(world)
    values = [asked.value]
    while len(values) < len(TIMES):
        value = world.value_for(asked.attribute)
        values += [value] if value not in values else []
    named = [
        reading.PlaceFact(asked.attribute, asked.place, value).memory
        for value, times in zip(values, TIMES, strict=True)
        for _ in range(times)
    ]
    rng.shuffle(named)
    parts: list[list[str]] = [[] for _ in range(num_sections)]
    for place, sentence in enumerate(named):
        parts[place * num_sections // len(named)].append(sentence)
    return Task(
        id=f"frequent{num_sections}-{part}-{seed}",
        kind="reading",
        agent="reader",
        request=(
            user(" ".join(filled(sentences, lambda: _sentence(world, asked), rng, length, section_tokens) for sentences in parts)),
            user(ASKED.format(a=asked.attribute, e=asked.place)),
        ),
        gold=(asked.value,),
        metric="boxed",
        evidence=(asked.memory,),
        labels={"dataset": "generated", "type": "frequent", "sections": str(num_sections)},
        source="generated",
    )


def _sentence(world: World, asked: reading.PlaceFact) -> str:
    """A distractor or filler."""
    return reading.distractor(world, asked) if world.rng.random() < 0.4 else world.filler()
