"""What is left of a budget: of tokens of an answer, of seconds, of tokens in all (as AgeMem's context reward, arXiv 2601.01885)."""

from __future__ import annotations


def left_over(used: float, budget: float) -> float:
    """1 - used / budget, in [0, 1]: 1.0 if nothing was used, 0.0 if all of it or more. Raises ValueError for a budget of 0 or less."""
    if budget <= 0:
        raise ValueError(f"the budget is {budget}; it must be above 0")
    return max(0.0, 1 - used / budget)
