"""Retrieval against known evidence: recall@k and NDCG@k (Järvelin and Kekäläinen 2002), as LoCoMo and LongMemEval measure it.

A retrieved memory is given as the set of names that evidence may call it by: its own id, and the turns that it was written in.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet

K = 5
"""LongMemEval's and RMM's."""


def evidence_recall(ranked: Sequence[AbstractSet[str]], evidence: Collection[str], *, k: int = K) -> float:
    """The share of the evidence among the first `k` memories, best first: in [0, 1]. Raises ValueError without evidence."""
    wanted = _distinct(evidence)
    return len(wanted & set[str]().union(*ranked[:k])) / len(wanted)


def evidence_ndcg(ranked: Sequence[AbstractSet[str]], evidence: Collection[str], *, k: int = K) -> float:
    """Discounted gain of the first `k` memories over that of the best order, in [0, 1].

    A memory at rank i gains 1 / log2(i + 1) for each evidence that none before it has. The best order has one evidence a
    memory; memories that hold several may do better, and that counts as 1. Raises ValueError without evidence.
    """
    left = _distinct(evidence)
    best = sum(_discount(rank) for rank in range(1, min(k, len(left)) + 1))
    gained = 0.0
    for rank, names in enumerate(ranked[:k], start=1):
        gained += len(left & names) * _discount(rank)
        left -= names
    return min(1.0, gained / best)


def citation_f1(cited: Sequence[AbstractSet[str]], evidence: Collection[str]) -> float:
    """F1 of the memories that an answer cites against the evidence, in [0, 1]; 1 if there is neither."""
    wanted = set(evidence)
    if not cited or not wanted:
        return float(not cited and not wanted)
    precision = sum(not wanted.isdisjoint(names) for names in cited) / len(cited)
    recall = len(wanted & set[str]().union(*cited)) / len(wanted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _discount(rank: int) -> float:
    return 1 / math.log2(rank + 1)


def _distinct(evidence: Collection[str]) -> set[str]:
    if not evidence:
        raise ValueError("evidence is empty; the task must name what holds its answer")
    return set(evidence)
