"""A question and many numbered documents, of which some answer it (RULER's QA, arXiv 2404.06654; MemAgent's data, 2507.02259)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from recollect.errors import InvalidRequest
from trainer.environments.longcontext.documents import Asked, Document
from trainer.environments.longcontext.fit import Length, fill
from trainer.environments.longcontext.sample import Sample

INTRO = (
    "Answer the question based on the given documents. Only give me the answer and do not output any other words.\n\n"
    "The following are given documents."
)
NUMBERED = "Document {number}:\n{document}"
BREAK = "\n\n"
SHORT = 0.05
"""A text that is shorter by more than this part of its length is refused."""


def documents_sample(
    asked: Asked, others: Sequence[Document], seed: str, *, room: int, length: Length, num_documents: int | None = None, intro: str = ""
) -> Sample:
    """The documents of the question, those that tempt and others in a seeded order, as many as `room` tokens hold, shuffled.

    `others` are passed over where they are too long for what is left. Raises InvalidRequest if the question's own do not
    fit, or are more than `num_documents`, and if the file holds too few documents.
    """
    rng = random.Random(seed)
    distractors = _distractors(asked, others, rng)
    most = None if num_documents is None else _num_distractors(num_documents, len(asked.gold), len(distractors))

    @cache
    def size(place: int) -> int:
        return length(BREAK + NUMBERED.format(number=1000, document=distractors[place]))

    order = rng.random()
    left = room - _sample(asked, list(asked.gold), order, intro).tokens(length)
    if left < 0:
        raise InvalidRequest(f"length {room} is too short for question {asked.id}; its own documents alone take more", param="length")
    while True:  # joining costs tokens: what is too much then is left free in the next round
        taken = fill(map(size, range(len(distractors))), left, at_most=most)
        found = _sample(asked, [*asked.gold, *(distractors[place] for place in taken)], order, intro)
        over = found.tokens(length) - room
        if over <= 0:
            break
        left -= over
    if num_documents is None and len(taken) == len(distractors) and -over > SHORT * room:
        raise InvalidRequest(f"all documents of the file fill {room + over} of {room} tokens; lower `length`", param="length")
    return found


def _distractors(asked: Asked, others: Sequence[Document], rng: random.Random) -> list[Document]:
    """Those that tempt, then the others, each shuffled."""
    own = set(asked.gold) | set(asked.tempting)
    rest = [document for document in others if document not in own]
    tempting = list(asked.tempting)
    rng.shuffle(rest)
    rng.shuffle(tempting)
    return tempting + rest


def _num_distractors(num_documents: int, num_gold: int, num_others: int) -> int:
    if not num_gold <= num_documents <= num_gold + num_others:
        raise InvalidRequest(
            f"num_documents is {num_documents}; from {num_gold} to {num_gold + num_others} fit here", param="num_documents"
        )
    return num_documents - num_gold


def _sample(asked: Asked, documents: list[Document], order: float, intro: str) -> Sample:
    shuffled = list(documents)
    random.Random(order).shuffle(shuffled)
    text = BREAK.join(NUMBERED.format(number=number, document=document) for number, document in enumerate(shuffled, start=1))
    evidence = tuple(f"Document {shuffled.index(document) + 1}" for document in asked.gold)
    return Sample(f"{intro}{BREAK if intro else ''}{text}", asked.question, asked.answers, evidence)
