"""An embedder that was given its vectors beforehand, so that no figure counts embedding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.rows import DIMENSION, Rows, Vectors


class GivenEmbedder:
    """Implements Embedder by looking a text up. `hold` replaces what it knows, `ask` adds queries that stay."""

    id = "given"
    dimension = DIMENSION

    def __init__(self, rows: Rows | None = None) -> None:
        self._rows: dict[str, Vectors] = {}
        self._queries: dict[str, Vectors] = {}
        if rows:
            self.hold(rows)

    def hold(self, rows: Rows) -> None:
        self._rows = dict(zip(rows.texts, rows.vectors, strict=True))

    def ask(self, queries: Rows) -> None:
        self._queries |= dict(zip(queries.texts, queries.vectors, strict=True))

    async def embed(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self._queries[text] if text in self._queries else self._rows[text] for text in texts])
