"""A section of a generated document, filled up to its tokens."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from trainer.environments.longcontext.fit import Length

SPARE = 4
"""Tokens that are left for what joining the sections costs."""
TRIES = 8
"""Sentences that may be too long for what is left before a section counts as full."""


def filled(said: Sequence[str], draw: Callable[[], str], rng: random.Random, length: Length, section_tokens: int) -> str:
    """The sentences `said`, in their order, among as many drawn ones as `section_tokens` hold."""
    sentences = list(said)
    missed = 0
    while missed < TRIES:
        sentence = draw()
        if length(" ".join([*sentences, sentence])) > section_tokens - SPARE:
            missed += 1
        else:
            sentences.insert(rng.randrange(len(sentences) + 1), sentence)
    return " ".join(sentences)
