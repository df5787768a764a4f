"""Containment of gold answers in an answer, as RULER scores it (Hsieh et al. 2024, arXiv 2404.06654): a substring, whatever its case.

A reference `42` is found in `421` too: that is how the published figures are counted.
"""

from __future__ import annotations

from collections.abc import Sequence


def contains_all(answer: str, gold: Sequence[str]) -> float:
    """The share of gold answers that the answer contains, in [0, 1] (needles, variable tracking, common and frequent words).

    Raises ValueError without a gold answer.
    """
    found = _found(answer, gold)
    return sum(found) / len(found)


def contains_any(answer: str, gold: Sequence[str]) -> float:
    """1.0 if the answer contains one of the gold answers, else 0.0 (question answering). Raises ValueError without a gold answer."""
    return float(any(_found(answer, gold)))


def _found(answer: str, gold: Sequence[str]) -> list[bool]:
    if not gold:
        raise ValueError("gold is empty; a task needs one right answer at least")
    said = answer.lower()
    return [reference.lower() in said for reference in gold]
