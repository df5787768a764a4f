"""How an agent's own calls are sampled: as the request says, but for one choice and a limit of their own."""

from __future__ import annotations

from server.engines.base import Sampling


def inner(sampling: Sampling, max_tokens: int) -> Sampling:
    """Temperature, top_p and seed of the request; what shapes only its answer (n, stop, penalties) is left out."""
    return Sampling(temperature=sampling.temperature, top_p=sampling.top_p, seed=sampling.seed, max_tokens=max_tokens)
