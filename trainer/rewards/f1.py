"""Token F1 of an answer against the gold answers, as SQuAD's and LoCoMo's evaluations count it (Rajpurkar et al. 2016)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from recollect.normalised import boxed, normalised, without_citations


def token_f1(answer: str, gold: Iterable[str]) -> float:
    """The best F1 of the answer's words (what its last box holds, if it has one) with those of a gold answer."""
    inside = boxed(answer)
    said = Counter(normalised(without_citations(answer if inside is None else inside)).split())
    return max((_f1(said, Counter(normalised(g).split())) for g in gold), default=0.0)


def _f1(said: Counter[str], wanted: Counter[str]) -> float:
    common = (said & wanted).total()
    return 2 * common / (said.total() + wanted.total()) if common else 0.0
