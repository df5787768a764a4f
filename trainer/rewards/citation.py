"""Citations: which of the memories that were shown the answer cites."""

from __future__ import annotations

from collections.abc import Collection, Sequence

BONUS = 0.125
"""Of one cited memory, in MemFactory's reranker reward."""


def citation_signs(shown: Sequence[str], cited: Collection[str]) -> list[int]:
    """+1 for each shown memory that is cited, -1 for each that is not, in the order of `shown` (RMM, arXiv 2503.08026)."""
    return [1 if memory in cited else -1 for memory in shown]


def citation(shown: Sequence[str], cited: Collection[str]) -> float | None:
    """The mean of the signs, in [-1, 1]; None if nothing was shown."""
    signs = citation_signs(shown, cited)
    return sum(signs) / len(signs) if signs else None


def citation_bonus(shown: Collection[str], cited: Collection[str], *, right: bool) -> float:
    """min(1, 0.125 a shown memory that is cited), in [0, 1]; 0.0 for a wrong answer (MemFactory, arXiv 2603.29493).

    There the bonus is never paid, because the citations are asked for as a text and counted as a list. Here they are the
    ids that the agent read from the answer, each counted once.
    """
    return min(1.0, BONUS * len(set(shown) & set(cited))) if right else 0.0
