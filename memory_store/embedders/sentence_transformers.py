"""Any model of the library sentence-transformers, in an environment that has torch: to try embedders and to train with them."""

# pyright: basic
# because the library is imported where it is installed only.

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from memory_store.embedders.base import Vectors
from recollect.errors import ConfigurationError, EmbedderError


class SentenceTransformersEmbedder:
    """`model`: a local folder or a hub id. Its vectors are scaled to length 1."""

    def __init__(self, model: str) -> None:
        """Load the model (seconds; call in a thread). Raises ConfigurationError."""
        if not model:
            raise ConfigurationError("embedder.model is empty; name a folder or a hub id of sentence-transformers", param="embedder.model")
        try:
            library: Any = importlib.import_module("sentence_transformers")
        except ImportError as exc:
            raise ConfigurationError(
                "embedder.kind sentence-transformers needs that package and torch, which the server does without: use it where the "
                "trainer is installed (pip install 'recollect[train]'), or give the server the model as ONNX",
                param="embedder.kind",
            ) from exc
        try:
            self._model: Any = library.SentenceTransformer(model, device="cpu")
        except Exception as exc:
            raise ConfigurationError(f"the embedder {model!r} cannot be loaded: {exc}", param="embedder.model") from exc
        self._id = f"sentence-transformers:{model.rstrip('/').rpartition('/')[2]}"

    @property
    def id(self) -> str:
        return self._id

    @property
    def dimension(self) -> int:
        return self._model.get_embedding_dimension()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (len(texts), dimension). Raises EmbedderError."""
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        try:
            found = await asyncio.to_thread(self._model.encode, list(texts), normalize_embeddings=True, show_progress_bar=False)
        except Exception as exc:
            raise EmbedderError(f"{self._id} failed: {exc}") from exc
        return np.asarray(found, np.float32)
