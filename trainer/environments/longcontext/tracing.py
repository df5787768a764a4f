"""Variable tracking: RULER's multi-hop task (arXiv 2404.06654, section 3; NVIDIA/RULER `variable_tracking.py`)."""

from __future__ import annotations

import random

from trainer.environments.longcontext import words
from trainer.environments.longcontext.niah import NOISE
from trainer.environments.longcontext.sample import Sample

INTRO = "Memorize and track the chain(s) of variable assignment hidden in the following text."
ASKED = "Find all variables that are assigned the value {value} in the text above."


def variable_tracking(seed: str, units: int, *, num_chains: int = 1, num_hops: int = 4) -> Sample:
    """`num_chains` chains of `num_hops` + 1 variables among `units` lines of noise, each in its order; the first is asked for."""
    rng = random.Random(seed)
    names = words.different(words.variable, rng, num_chains * (num_hops + 1))
    values = words.different(lambda drawn: str(drawn.randrange(10_000, 100_000)), rng, num_chains)
    lines = [NOISE] * units
    chains = [names[i * (num_hops + 1) : (i + 1) * (num_hops + 1)] for i in range(num_chains)]
    assigned = [_assignments(chain, value) for chain, value in zip(chains, values, strict=True)]
    for chain in assigned:
        places = sorted(rng.randrange(len(lines) + 1) for _ in chain)
        for place, line in reversed(list(zip(places, chain, strict=True))):
            lines.insert(place, line)
    return Sample(
        document=f"{INTRO}\n\n" + "\n".join(lines),
        question=ASKED.format(value=values[0]),
        gold=tuple(chains[0]),
        evidence=tuple(assigned[0]),
    )


def _assignments(chain: list[str], value: str) -> list[str]:
    return [f"VAR {name} = {f'VAR {chain[i - 1]}' if i else value}" for i, name in enumerate(chain)]
