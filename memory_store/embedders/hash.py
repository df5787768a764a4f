"""An embedder without weights: words and their character trigrams hashed into a fixed number of dimensions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from memory_store.embedders.base import Vectors, unit

_WORD = re.compile(r"\w+")


class HashEmbedder:
    """Deterministic and instant: texts that share words or parts of words are near. For tests, and where no weights can be had.

    Signed feature hashing after Weinberger et al. (2009); a trigram weighs a third of a word.
    """

    def __init__(self, dimension: int = 256) -> None:
        self._dimension = dimension

    @property
    def id(self) -> str:
        return f"hash-{self._dimension}"

    @property
    def dimension(self) -> int:
        return self._dimension

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (len(texts), dimension)."""
        vectors = np.zeros((len(texts), self._dimension), np.float32)
        for row, text in enumerate(texts):
            for feature, weight in _features(text):
                number = int.from_bytes(hashlib.blake2b(feature.encode(errors="replace"), digest_size=8).digest())
                vectors[row, (number >> 1) % self._dimension] += weight if number & 1 else -weight
            if not vectors[row].any():
                vectors[row, 0] = 1
        return unit(vectors)


def _features(text: str) -> Iterator[tuple[str, float]]:
    for word in _WORD.findall(text.lower()):
        yield word, 1.0
        padded = f"<{word}>"
        for i in range(len(padded) - 2):
            yield padded[i : i + 3], 1 / 3
