"""Retrieval against known evidence: recall@k and NDCG@k (Järvelin and Kekäläinen 2002), as LoCoMo and LongMemEval measure it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

K = 5
"""LongMemEval's and RMM's."""


def evidence_recall(ranked: Sequence[str], evidence: Collection[str], *, k: int = K) -> float:
    """The share of the evidence among the first `k` of the ids, best first: in [0, 1]. Raises ValueError without evidence."""
    wanted = _distinct(evidence)
    return len(set(ranked[:k]) & wanted) / len(wanted)


def evidence_ndcg(ranked: Sequence[str], evidence: Collection[str], *, k: int = K) -> float:
    """Discounted gain of the first `k` ids over that of the best order, in [0, 1]; a repeated id gains once.

    An id of the evidence at rank i gains 1 / log2(i + 1). Raises ValueError without evidence.
    """
    wanted = _distinct(evidence)
    first = {name: rank for rank, name in reversed(list(enumerate(ranked[:k], start=1)))}
    gained = sum(_discount(rank) for name, rank in first.items() if name in wanted)
    return gained / sum(_discount(rank) for rank in range(1, min(k, len(wanted)) + 1))


def _discount(rank: int) -> float:
    return 1 / math.log2(rank + 1)


def _distinct(evidence: Collection[str]) -> set[str]:
    if not evidence:
        raise ValueError("evidence is empty; the task must name what holds its answer")
    return set(evidence)
