"""The one protocol of all embedders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into vectors of one space. `id` names that space: vectors of different ids are never compared."""

    @property
    def id(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (len(texts), dimension), float32, unit length. Raises EmbedderError."""
        ...


class Embedded(NamedTuple):
    """Vectors of shape (texts, dimension), unit length, and the space they are of: an embedder's `id`."""

    space: str
    vectors: Vectors


@runtime_checkable
class EmbeddingStore(Protocol):
    """A memory store that also tells where texts lie in the space that it searches. One behind HTTP does not."""

    async def embed(self, texts: Sequence[str]) -> Embedded | None:
        """The vectors of texts, by the store's own embedder and its cache; None without an embedder. Raises EmbedderError."""
        ...


async def embedded(embedder: Embedder | None, texts: Sequence[str]) -> Embedded | None:
    """What `EmbeddingStore.embed` gives for an embedder."""
    return None if embedder is None else Embedded(embedder.id, await embedder.embed(texts))


def unit(vectors: Vectors) -> Vectors:
    """The rows scaled to length 1; a row of zeros stays as it is."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms == 0, 1, norms)).astype(np.float32)
