"""Exact match of an answer with one of the gold answers, normalised as SQuAD's evaluation does (Rajpurkar et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterable

from recollect.normalised import boxed, normalised, without_citations


def exact_match(answer: str, gold: Iterable[str]) -> float:
    """1.0 if the answer without citations equals a gold answer after normalisation, else 0.0."""
    said = normalised(without_citations(answer))
    return float(any(said == normalised(g) for g in gold))


def boxed_exact_match(answer: str, gold: Iterable[str]) -> float:
    """As `exact_match`, of what the answer's last box holds; without a box 0.0."""
    inside = boxed(answer)
    return 0.0 if inside is None else exact_match(inside, gold)
