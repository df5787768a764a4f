"""Generated tasks in the invented world: dialogues with a change and a distractor, and documents to be read in sections."""

from __future__ import annotations

import random

from recollect.memory import Namespace
from recollect.messages import user
from trainer.environments.longcontext.fit import Length
from trainer.environments.tasks import Task, Turn
from trainer.seed import dialogue, reading
from trainer.seed.world import Part, World

LABELS = {"dataset": "generated", "difficulty": "easy"}


def dialogue_task(seed: str, part: Part = "train") -> Task:
    """Two or three facts of the user, one of them perhaps changed, a distractor and noise; then a question about one fact."""
    world = World(random.Random(f"dialogue/{part}/{seed}"), part)
    rng = world.rng
    told = dialogue.facts(world, rng.choice((2, 2, 3)))
    asked = rng.randrange(len(told))
    turns = [rng.choice(dialogue.STATED).format(a=f.attribute, v=f.value) for f in told]
    turns.insert(rng.randrange(len(turns) + 1), world.noise() if rng.random() < 0.5 else world.about_another(told[asked].attribute))
    gold = told[asked].value
    if rng.random() < 0.5:
        attribute = told[asked].attribute
        gold = world.value_for(attribute, unlike=gold)
        turns.append(rng.choice(dialogue.CHANGED).format(a=attribute, v=gold))
    return Task(
        id=f"dialogue-{part}-{seed}",
        kind="dialogue",
        agent="memory",
        namespace=Namespace(parts=(("user", f"generated-{part}-{seed}"),)),
        conversation=tuple(Turn(messages=(user(text),), reply=dialogue.NOTED) for text in turns),
        request=(user(rng.choice(dialogue.ASKED).format(a=told[asked].attribute)),),
        gold=(gold,),
        labels=LABELS | {"type": "dialogue"},
        source="generated",
    )


def reading_task(seed: str, part: Part, length: Length, *, num_sections: int = 3, section_tokens: int = reading.SECTION_TOKENS) -> Task:
    """A document of `num_sections` sections and a question about what holds at its end. `length` counts tokens of a text."""
    world = World(random.Random(f"reading/{num_sections}/{part}/{seed}"), part)
    document = reading.document(world, num_sections, length, section_tokens=section_tokens)
    return Task(
        id=f"reading{num_sections}-{part}-{seed}",
        kind="reading",
        agent="reader",
        request=(user(document.text), user(document.question)),
        gold=(document.answer,),
        metric="boxed",
        labels=LABELS | {"type": "reading", "sections": str(num_sections)},
        source="generated",
    )


def generated_tasks(
    count: int,
    *,
    seed: str,
    part: Part,
    length: Length,
    reading_share: float = 0.5,
    num_sections: int = 3,
    section_tokens: int = reading.SECTION_TOKENS,
) -> list[Task]:
    """`count` tasks, a share of them reading, in a fixed order: a pure function of its arguments."""
    num_reading = round(count * reading_share)
    tasks = [
        reading_task(f"{seed}-{i}", part, length, num_sections=num_sections, section_tokens=section_tokens) for i in range(num_reading)
    ]
    tasks += [dialogue_task(f"{seed}-{i}", part) for i in range(count - num_reading)]
    random.Random(seed).shuffle(tasks)
    return tasks
