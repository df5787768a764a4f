"""The hard difficulty of the generated tasks: more facts, more changes, and documents of six sections."""

from __future__ import annotations

import random

from recollect.memory import Namespace
from recollect.messages import user
from trainer.environments.generated_section import filled
from trainer.environments.longcontext.fit import Length
from trainer.environments.tasks import Task, Turn
from trainer.seed import dialogue, reading
from trainer.seed.dialogue import Fact
from trainer.seed.world import Part, World

NUM_SECTIONS, SILENT = 6, 1
OTHERS_CHANGE = 0.05
"""The part of sentences that tell a change of the same attribute elsewhere: what misleads the seed model most."""
LABELS = {"dataset": "generated", "difficulty": "hard"}


def hard_dialogue_task(seed: str, part: Part = "train") -> Task:
    """Five facts, three changes (one of them of a fact that changed before, at times), two distractors and noise; then a question.

    Every second question is about a fact that changed.
    """
    world = World(random.Random(f"hard dialogue/{part}/{seed}"), part)
    rng = world.rng
    told = dialogue.facts(world, 5)
    turns = [rng.choice(dialogue.STATED).format(a=fact.attribute, v=fact.value) for fact in told]
    held = {fact.attribute: fact for fact in told}
    changing = rng.sample(told, 2)
    for fact in [*changing, rng.choice(changing if rng.random() < 0.5 else told)]:
        now = Fact(fact.attribute, world.value_for(fact.attribute, unlike=held[fact.attribute].value))
        held[fact.attribute] = now
        turns.append(rng.choice(dialogue.CHANGED).format(a=now.attribute, v=now.value))
    asked = rng.choice(changing) if rng.random() < 0.5 else rng.choice(told)
    for text in (world.about_another(asked.attribute), world.about_another(rng.choice(told).attribute), world.noise()):
        turns.insert(rng.randrange(len(turns) + 1), text)
    return Task(
        id=f"hard-dialogue-{part}-{seed}",
        kind="dialogue",
        agent="memory",
        namespace=Namespace(parts=(("user", f"hard-{part}-{seed}"),)),
        conversation=tuple(Turn(messages=(user(text),), reply=dialogue.NOTED) for text in turns),
        request=(user(rng.choice(dialogue.ASKED).format(a=asked.attribute)),),
        gold=(held[asked.attribute].value,),
        labels=LABELS | {"type": "dialogue"},
        source="generated",
    )


def hard_reading_task(
    seed: str, part: Part, length: Length, *, num_sections: int = NUM_SECTIONS, section_tokens: int = reading.SECTION_TOKENS
) -> Task:
    """A document in which a fact is stated and then changes twice, in three sections, and others change too.

    The last section says nothing of it (if there are more than three), so that it must be carried through.
    """
    world = World(random.Random(f"hard reading/{num_sections}/{part}/{seed}"), part)
    rng = world.rng
    first = reading.place_fact(world)
    second = reading.place_fact(world, attribute=first.attribute, place=first.place, unlike=first.value)
    third = reading.place_fact(world, attribute=first.attribute, place=first.place, unlike=second.value)
    said = [first.memory, second.changed, third.changed][:num_sections]
    last = max(num_sections - SILENT, len(said))
    places = dict(zip(sorted(rng.sample(range(last), len(said))), said, strict=True))
    sections = [
        filled([places[number]] if number in places else [], lambda: _sentence(world, first), rng, length, section_tokens)
        for number in range(num_sections)
    ]
    return Task(
        id=f"hard-reading{num_sections}-{part}-{seed}",
        kind="reading",
        agent="reader",
        request=(user(" ".join(sections)), user(rng.choice(reading.ASKED).format(a=first.attribute, e=first.place))),
        gold=((first, second, third)[len(said) - 1].value,),
        metric="boxed",
        evidence=tuple(said),
        labels=LABELS | {"type": "reading", "sections": str(num_sections)},
        source="generated",
    )


def _sentence(world: World, asked: reading.PlaceFact) -> str:
    """A distractor, at times a change of the same attribute elsewhere, or filler."""
    kind = world.rng.random()
    if kind < OTHERS_CHANGE:
        return reading.place_fact(world, attribute=asked.attribute).changed
    return reading.distractor(world, asked) if kind < 0.4 else world.filler()
