"""BLEU-1 of an answer: clipped precision of its words with a penalty for brevity (Papineni et al. 2002), as LoCoMo's peers report it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from recollect.normalised import without_citations

_TOKEN = re.compile(r"\w+|[^\w\s]")


def bleu1(answer: str, gold: Sequence[str]) -> float:
    """In [0, 1]. Words and marks of punctuation count, in lower case, without citations; a word counts as often as one gold answer has it.

    Nothing is smoothed: an answer without a word of a gold answer scores 0.0. Raises ValueError without a gold answer.
    """
    if not gold:
        raise ValueError("gold is empty; a task needs one right answer at least")
    said = Counter(_tokens(without_citations(answer)))
    references = [Counter(_tokens(text)) for text in gold]
    if not said:
        return 0.0
    most = Counter[str]()
    for reference in references:
        most |= reference
    length = said.total()
    closest = min((reference.total() for reference in references), key=lambda size: (abs(size - length), size))
    penalty = 1.0 if length > closest else math.exp(1 - closest / length)
    return penalty * (said & most).total() / length


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text.lower())
