"""`POST /v1/embeddings`: the vectors of texts in the space in which memories are searched."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import Field

from recollect.errors import InvalidRequest, NotFound
from server.principal import principal_of
from server.routes.wire import Body, ServiceDep
from server.service.chat import CHARACTERS_A_TOKEN

MAX_TEXTS = 2048
ANY = "default"
"""A name for whatever embedder the server has."""
router = APIRouter()
Text = Annotated[str, Field(min_length=1, max_length=1_000_000)]


class EmbeddingsBody(Body):
    """OpenAI's body. Token ids are refused: they are of a tokenizer that the embedder does not have."""

    model: Annotated[str, Field(min_length=1)]
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None


@router.post("/v1/embeddings")
async def embeddings(body: EmbeddingsBody, request: Request, service: ServiceDep) -> dict[str, Any]:
    """Vectors of unit length, in the order of the texts. `usage` is estimated by the number of characters."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    probe = await service.embed([ANY])
    if probe is None:
        raise NotFound("this server has no embedder; set embedder.kind", param="model", code="model_not_found")
    if body.model not in (probe.space, ANY):
        raise NotFound(f"no embedder {body.model!r}; it has {probe.space!r}, or say {ANY!r}", param="model", code="model_not_found")
    width = probe.vectors.shape[1]
    if body.dimensions not in (None, width):
        raise InvalidRequest(f"dimensions is {body.dimensions}, the embedder's vectors have {width}; leave it out", param="dimensions")
    tokens = sum(1 + len(text) // CHARACTERS_A_TOKEN for text in texts)
    who = principal_of(request)
    service.limits.reserve(who.tenant, who.key_id, tokens).settle(tokens)
    embedded = await service.embed(texts)
    if embedded is None:
        raise NotFound("this server has no embedder any more", param="model", code="model_not_found")
    data = [
        {"object": "embedding", "index": index, "embedding": _written(vector, body.encoding_format)}
        for index, vector in enumerate(embedded.vectors)
    ]
    return {"object": "list", "data": data, "model": embedded.space, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def _written(vector: Any, form: str | None) -> list[float] | str:
    if form == "base64":
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
    return [float(value) for value in vector]
