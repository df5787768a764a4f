"""RMM's reranker as mathematics: scores, Gumbel noise, the choice of the best M, and the gradient of its log-probability.

Source: RMM, arXiv 2503.08026, section "retrospective reflection". With residual matrices W_q and W_m
    q' = q + W_q q        m_i' = m_i + W_m m_i        s_i = q'.m_i'
    s~_i = s_i + g_i,     g_i = -log(-log u_i)        p = softmax(s~ / tau)
and the M candidates with the greatest s~ are chosen. The paper does not factorise P(M_M | q, M_K). The reading used here is the
sum of log p_i over the chosen, each with its own (R_i - b):
    phi <- phi + eta * sum_i (R_i - b) grad log p_i
with p taken under the noise that was drawn. Each request of a batch adds the whole of that step (a sum, not a mean): the formula is
one request's. W = 0 is where it starts, which the paper leaves open: the plain dot product.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Weights:
    """W_q and W_m, each (dimension, dimension), float32."""

    query: Floats
    memory: Floats

    @classmethod
    def identity(cls, dimension: int) -> Weights:
        """Zeros: scores are dot products of the vectors as they are."""
        return cls(np.zeros((dimension, dimension), np.float32), np.zeros((dimension, dimension), np.float32))

    @property
    def dimension(self) -> int:
        return len(self.query)


@dataclass(frozen=True, slots=True)
class Sample:
    """A choice and what it earned: q (d,), memories (K, d), noise (K,); `chosen` are places in K, `advantages` their R_i - b."""

    query: Floats
    memories: Floats
    noise: Doubles
    chosen: Places
    advantages: Doubles


def scores(weights: Weights, query: Floats, memories: Floats) -> Doubles:
    """s, shape (K,), without noise."""
    adapted = query + weights.query @ query
    return (memories @ adapted + memories @ (weights.memory.T @ adapted)).astype(np.float64)


def noise(seed: int, number: int, query: Floats, count: int) -> Doubles:
    """Gumbel noise, shape (count,): a function of the seed, of how many requests were learned from, and of the query.

    No state of a random generator has to survive a restart, and requests at the same time draw noise of their own.
    """
    digest = hashlib.sha256(np.ascontiguousarray(query).tobytes()).digest()
    uniform = np.random.default_rng([seed, number, int.from_bytes(digest[:8])]).random(count)
    return -np.log(-np.log(np.clip(uniform, 1e-12, 1 - 1e-12)))


def best(noisy: Doubles, limit: int) -> Places:
    """The places of the greatest `limit` scores, best first; of equals the earlier."""
    return np.argsort(-noisy, kind="stable")[:limit].astype(np.int64)


def probabilities(noisy: Doubles, temperature: float) -> Doubles:
    """softmax(s~ / tau), shape (K,)."""
    exponents = np.exp((noisy - noisy.max()) / temperature)
    return exponents / exponents.sum()


def objective(weights: Weights, sample: Sample, temperature: float) -> float:
    """sum over the chosen of (R_i - b) log p_i."""
    p = probabilities(scores(weights, sample.query, sample.memories) + sample.noise, temperature)
    return float(sample.advantages @ np.log(p[sample.chosen]))


def gradient(weights: Weights, sample: Sample, temperature: float) -> tuple[Doubles, Doubles]:
    """The gradient of `objective` by W_q and by W_m, each (d, d) of rank one.

    By s_j it is delta_j = ((R_j - b) [j chosen] - p_j sum_i (R_i - b)) / tau; s_j = q'.m_j' gives the rest.
    """
    p = probabilities(scores(weights, sample.query, sample.memories) + sample.noise, temperature)
    delta = -p * sample.advantages.sum()
    delta[sample.chosen] += sample.advantages
    pulled = delta @ sample.memories.astype(np.float64) / temperature
    query = sample.query.astype(np.float64)
    return (pulled + weights.memory @ pulled)[:, None] * query, (query + weights.query @ query)[:, None] * pulled


def updated(weights: Weights, batch: Sequence[Sample], *, temperature: float, learning_rate: float) -> Weights:
    """The weights after the steps of a batch, all taken from where the weights were before it."""
    by_query, by_memory = np.zeros_like(weights.query, np.float64), np.zeros_like(weights.memory, np.float64)
    for sample in batch:
        first, second = gradient(weights, sample, temperature)
        by_query += first
        by_memory += second
    return Weights(
        (weights.query + learning_rate * by_query).astype(np.float32), (weights.memory + learning_rate * by_memory).astype(np.float32)
    )
