"""Made rows that behave like memories: words of a Zipf distribution, vectors in clusters, and queries near known rows."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory_store.embedders.base import unit

DIMENSION = 384
WORDS_A_TEXT = 14
WORDS_A_QUERY = 6
VOCABULARY = 20_000
CLUSTERS = 256
SPREAD = 1.0
"""Length of the noise around the centre of a cluster: two rows of one cluster then have a cosine near 0.5."""
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprtvz" for vowel in "aiou"]
Vectors = NDArray[np.float32]


class Rows(NamedTuple):
    """Texts, and their vectors of unit length, (len(texts), 384)."""

    texts: list[str]
    vectors: Vectors

    @property
    def bytes(self) -> int:
        """What has to be stored: the texts as UTF-8, and the vectors."""
        return sum(len(text.encode()) for text in self.texts) + self.vectors.nbytes


def rows(count: int, seed: int = 0) -> Rows:
    """`count` rows. Rows of another seed are other rows of the same distribution."""
    rng = np.random.default_rng((seed, 1))
    words = _words(rng, count * WORDS_A_TEXT).reshape(count, WORDS_A_TEXT)
    centres = _centres()[rng.integers(CLUSTERS, size=count)]
    return Rows([_text(line) for line in words], _near(centres, SPREAD, rng))


def queries(of: Rows, count: int, seed: int = 0) -> Rows:
    """Questions about rows: some of a row's words and some others, and a vector near the row's."""
    rng = np.random.default_rng((seed, 2))
    places = rng.integers(len(of.texts), size=count)
    others = _words(rng, count * WORDS_A_QUERY).reshape(count, WORDS_A_QUERY)
    own = [rng.choice(of.texts[place].split(), WORDS_A_QUERY // 2, replace=False) for place in places]
    texts = [" ".join((*mine, _text(line[: WORDS_A_QUERY // 2]))) for mine, line in zip(own, others, strict=True)]
    return Rows(texts, _near(of.vectors[places], 0.7, rng))


def _words(rng: np.random.Generator, count: int) -> NDArray[np.intp]:
    return np.searchsorted(_cumulated(), rng.random(count)).clip(max=VOCABULARY - 1)


@cache
def _cumulated() -> NDArray[np.float64]:
    weights = 1 / (np.arange(VOCABULARY) + 2.7)  # Mandelbrot's form of Zipf's law, as in English
    return np.cumsum(weights / weights.sum())


@cache
def _centres() -> Vectors:
    made: Vectors = np.random.default_rng(0).standard_normal((CLUSTERS, DIMENSION), np.float32)
    return unit(made)


def _near(vectors: Vectors, distance: float, rng: np.random.Generator) -> Vectors:
    """Unit vectors near `vectors`, made in parts, because the noise of a million at once would fill the memory."""
    found = np.empty_like(vectors)
    for start in range(0, len(vectors), 10_000):
        part = vectors[start : start + 10_000]
        noise: Vectors = rng.standard_normal(part.shape, np.float32)
        noise *= distance / DIMENSION**0.5
        found[start : start + 10_000] = unit(part + noise)
    return found


def _text(words: NDArray[np.intp]) -> str:
    return " ".join(_word(int(word)) for word in words)


@cache
def _word(number: int) -> str:
    """A word of three syllables, a different one for every number; none is a stop word."""
    base = len(SYLLABLES)
    digits = [number % base, number // base % base, number // base**2]
    return "".join(SYLLABLES[digit] for digit in digits)
