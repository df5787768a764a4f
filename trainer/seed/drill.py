"""Recall drills: many facts, all of them asked for again. They teach looking up, which the skills then build on.

Associative recall with several queries a sequence (as in Arora et al. 2023, Zoology) gives several times the signal of one
question a prompt.
"""

from __future__ import annotations

from recollect.messages import user
from trainer.seed import dialogue, reading
from trainer.seed.dialogue import Sample
from trainer.seed.world import World


def drill(world: World) -> Sample:
    """Three to seven facts among some filler; the completion states them again in another order, or asks and answers."""
    rng = world.rng
    if rng.random() < 0.5:
        told = dialogue.facts(world, rng.choice((3, 4, 5, 6)))
        stated = [f.memory for f in told]
        asked = [f"{rng.choice(dialogue.ASKED).format(a=f.attribute)} {f.value}" for f in told]
    else:
        shared = [rng.choice(reading.PLACE_NAMED + reading.PLACE_NUMBERED) for _ in range(2)]
        places = [reading.place_fact(world, attribute=rng.choice(shared)) for _ in range(rng.choice((3, 4, 5, 6, 7)))]
        stated = [f.memory for f in places]
        asked = [f"{rng.choice(reading.ASKED).format(a=f.attribute, e=f.place)} {f.value}" for f in places]
    again = asked if rng.random() < 0.5 else list(stated)
    rng.shuffle(again)
    for _ in range(rng.choice((0, 0, 1, 2))):
        stated.insert(rng.randrange(len(stated) + 1), world.filler())
    return Sample("drill", [user(rng.choice((" ", "\n")).join(stated))], "\n".join(again))
