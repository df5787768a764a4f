"""Information gain of each step that reads or writes: what of the gold answer its memory has gained (ReMemR1, arXiv 2509.23040)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from recollect.normalised import normalised


def word_recall(text: str, gold: Iterable[str]) -> float:
    """The share of a gold answer's distinct words that the text has, in [0, 1]; of several gold answers the best."""
    held = set(normalised(text).split())
    return max((len(held & words) / len(words) for one in gold if (words := set(normalised(one).split()))), default=0.0)


def information_gain(memories: Sequence[str], gold: Sequence[str], *, before: str = "") -> list[float]:
    """For each memory, in their order, its word recall minus that of the memory before it: each in [-1, 1].

    Their sum is the recall of the last memory minus that of `before`.
    """
    recalls = [word_recall(text, gold) for text in (before, *memories)]
    return [new - old for old, new in pairwise(recalls)]
