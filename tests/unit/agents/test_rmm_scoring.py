"""RMM's mathematics: identity at the start, Gumbel noise, the choice, and the gradient against a numerical one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from server.agents.rmm.scoring import (
    Sample,
    Weights,
    best,
    gradient,
    noise,
    objective,
    probabilities,
    scores,
    updated,
)

D, K, M = 7, 9, 4


def _weights(rng: np.random.Generator, scale: float = 0.3) -> Weights:
    first, second = (rng.normal(0, scale, (D, D)).astype(np.float32) for _ in range(2))
    return Weights(first, second)


def _sample(seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    query, memories = rng.normal(size=D).astype(np.float32), rng.normal(size=(K, D)).astype(np.float32)
    gumbel = noise(seed, 0, query, K)
    chosen = best(scores(_weights(rng), query, memories) + gumbel, M)
    return Sample(query, memories, gumbel, chosen, rng.choice([0.5, -1.5], M))


def test_at_the_start_scores_are_dot_products() -> None:
    sample = _sample(0)
    assert np.allclose(scores(Weights.identity(D), sample.query, sample.memories), sample.memories @ sample.query, atol=1e-6)


def test_scores_are_those_of_the_residual_formula() -> None:
    sample, weights = _sample(1), _weights(np.random.default_rng(5))
    adapted = sample.query + weights.query @ sample.query
    by_hand = [adapted @ (memory + weights.memory @ memory) for memory in sample.memories]
    assert np.allclose(scores(weights, sample.query, sample.memories), by_hand, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_is_the_numerical_one(seed: int) -> None:
    sample = _sample(seed)
    exact = Weights(*(part.astype(np.float64) for part in _parts(_weights(np.random.default_rng(seed + 50)))))  # type: ignore[arg-type]
    for part, found in zip(("query", "memory"), gradient(exact, sample, 0.5), strict=True):
        assert np.allclose(found, _numerical(exact, part, lambda w: objective(w, sample, 0.5)), rtol=1e-5, atol=1e-6)


def _parts(weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    return weights.query, weights.memory


def _numerical(weights: Weights, part: str, value: Callable[[Weights], float], step: float = 1e-5) -> np.ndarray:
    found = np.zeros((D, D))
    for place in np.ndindex(D, D):
        moved = []
        for sign in (1, -1):
            matrix = getattr(weights, part).copy()
            matrix[place] += sign * step
            moved.append(value(replace(weights, **{part: matrix})))
        found[place] = (moved[0] - moved[1]) / (2 * step)
    return found


def test_the_objective_is_the_sum_over_the_chosen_of_advantage_times_log_probability() -> None:
    sample, weights = _sample(2), _weights(np.random.default_rng(3))
    noisy = scores(weights, sample.query, sample.memories) + sample.noise
    softmax = np.exp(noisy / 0.5) / np.exp(noisy / 0.5).sum()
    assert np.allclose(probabilities(noisy, 0.5), softmax)
    by_hand = sum(a * np.log(softmax[i]) for a, i in zip(sample.advantages, sample.chosen, strict=True))
    assert objective(weights, sample, 0.5) == pytest.approx(by_hand)


def test_an_update_makes_what_was_cited_likelier_and_adds_up_over_a_batch() -> None:
    sample = replace(_sample(4), chosen=np.array([3]), advantages=np.array([0.5]))
    start = Weights.identity(D)
    after = updated(start, [sample], temperature=0.5, learning_rate=1e-3)
    assert objective(after, sample, 0.5) > objective(start, sample, 0.5)
    twice = updated(start, [sample, sample], temperature=0.5, learning_rate=1e-3)
    assert np.allclose(twice.query, 2 * after.query, atol=1e-7)
    assert after.query.dtype == np.float32


def test_noise_is_gumbel_so_that_the_first_choice_follows_the_softmax() -> None:
    plain = np.array([1.0, 0.0, -1.0, 0.5])
    queries = np.random.default_rng(0).normal(size=(4000, D)).astype(np.float32)
    first = [int(best(plain + noise(7, n, query, 4), 1)[0]) for n, query in enumerate(queries)]
    assert np.allclose(np.bincount(first, minlength=4) / len(first), probabilities(plain, 1.0), atol=0.03)


def test_noise_depends_on_seed_count_and_query_and_on_nothing_else() -> None:
    query = np.ones(D, np.float32)
    drawn = noise(1, 2, query, K)
    assert np.array_equal(drawn, noise(1, 2, query.copy(), K))
    for other in (noise(2, 2, query, K), noise(1, 3, query, K), noise(1, 2, 2 * query, K)):
        assert not np.array_equal(drawn, other)


def test_the_best_are_chosen_and_equals_by_their_order() -> None:
    assert best(np.array([0.5, 2.0, 2.0, -1.0]), 3).tolist() == [1, 2, 0]
