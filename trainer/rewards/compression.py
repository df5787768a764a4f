"""Compression: how much shorter the memory is than what it was made from (Mem-alpha, arXiv 2509.25911)."""

from __future__ import annotations

LEAST = -1.0
"""The paper has no lower bound; without one a single rollout that copies its input many times would outweigh its whole group."""


def compression(memory: str, told: str) -> float | None:
    """1 - |memory| / |told|, in characters, at least -1; None if nothing was told."""
    return max(LEAST, 1 - len(memory) / len(told)) if told else None
