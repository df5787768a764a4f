"""An embedder that remembers its last texts: siblings of a group search for and write the same ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from memory_store.embedders.base import Embedder, Vectors

KEPT = 4096


class CachedEmbedder:
    """Implements Embedder. Keeps the vectors of the last 4,096 texts (6 MB at 384 dimensions)."""

    def __init__(self, embedder: Embedder, kept: int = KEPT) -> None:
        self._embedder = embedder
        self._kept = kept
        self._vectors: OrderedDict[str, Vectors] = OrderedDict()

    @property
    def id(self) -> str:
        return self._embedder.id

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (len(texts), dimension). Raises EmbedderError."""
        known = {text: vector for text in texts if (vector := self._vectors.get(text)) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            known |= dict(zip(missing, await self._embedder.embed(missing), strict=True))
        for text in known:
            self._vectors[text] = known[text]
            self._vectors.move_to_end(text)
        while len(self._vectors) > self._kept:
            self._vectors.popitem(last=False)
        return np.stack([known[text] for text in texts]) if texts else np.zeros((0, self.dimension), np.float32)
