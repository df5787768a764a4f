"""Vectors from an OpenAI-compatible `/v1/embeddings` endpoint."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import numpy as np
from pydantic import BaseModel, ValidationError

from memory_store.embedders.base import Vectors, unit
from recollect.errors import ConfigurationError, EmbedderError

BATCH = 64
TIMEOUT_S = 30.0


class _Item(BaseModel):
    index: int
    embedding: list[float]


class _Answer(BaseModel):
    data: list[_Item]


class EndpointEmbedder:
    """`url` is the base of the API, such as http://127.0.0.1:11434/v1. The dimension is asked from the endpoint once, by `open`."""

    def __init__(self, url: str, model: str, dimension: int, client: httpx.AsyncClient) -> None:
        self._url = url
        self._model = model
        self._dimension = dimension
        self._client = client

    @classmethod
    async def open(cls, url: str, model: str, api_key: str = "", *, transport: httpx.AsyncBaseTransport | None = None) -> EndpointEmbedder:
        """Raises ConfigurationError without url and model, EmbedderError if the endpoint does not answer."""
        if not url or not model:
            missing = "url" if not url else "model"
            raise ConfigurationError(f"embedder.kind is endpoint, but embedder.{missing} is not set", param=f"embedder.{missing}")
        client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=TIMEOUT_S,
            transport=transport or httpx.AsyncHTTPTransport(retries=2),
        )
        address = url.rstrip("/").removesuffix("/embeddings") + "/embeddings"
        probe = await cls(address, model, 0, client).embed(["dimension"])
        return cls(address, model, probe.shape[1], client)

    @property
    def id(self) -> str:
        return f"endpoint:{self._model}"

    @property
    def dimension(self) -> int:
        return self._dimension

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (len(texts), dimension). Raises EmbedderError that names the endpoint."""
        parts = [await self._embed(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self._dimension), np.float32)

    async def _embed(self, texts: Sequence[str]) -> Vectors:
        try:
            response = await self._client.post(self._url, json={"model": self._model, "input": list(texts)})
            response.raise_for_status()
            items = sorted(_Answer.model_validate_json(response.content).data, key=lambda item: item.index)
            vectors = np.array([item.embedding for item in items], np.float32)
        except httpx.HTTPStatusError as exc:
            raise EmbedderError(f"{self._url} answered {exc.response.status_code}: {exc.response.text[:200]}") from exc
        except httpx.HTTPError as exc:
            raise EmbedderError(f"{self._url} does not answer: {exc!r}") from exc
        except (ValidationError, ValueError) as exc:
            raise EmbedderError(f"{self._url} answered something that is no list of embeddings: {exc}") from exc
        wanted = (len(texts), self._dimension or vectors.shape[-1])
        if vectors.shape != wanted or not np.isfinite(vectors).all():
            raise EmbedderError(f"{self._url} answered vectors of shape {vectors.shape} or not finite, wanted {wanted}")
        return unit(vectors)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
