"""`/v1/embeddings` with the real `openai` client, over the embedder that memories are searched by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from tests.api.conftest import Served, serving


async def test_vectors_are_those_of_the_embedder_in_both_forms(tmp_path: Path) -> None:
    async with serving(tmp_path / "home", embedder={"kind": "hash"}) as served:
        texts = ["the cat sleeps", "a cat is asleep", "the engine is hot"]
        packed = await served.openai.embeddings.create(model="default", input=texts)  # the client asks for base64
        plain = await served.openai.embeddings.create(model=packed.model, input=texts, encoding_format="float")
        assert [item.index for item in packed.data] == [0, 1, 2]
        vectors = np.array([item.embedding for item in packed.data])
        assert np.allclose(vectors, [item.embedding for item in plain.data])
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert packed.usage.total_tokens > 0
        own = await served.service.embed(texts)
        assert own is not None
        assert own.space == packed.model
        assert np.allclose(own.vectors, vectors)


async def test_a_server_without_an_embedder_says_so(served: Served) -> None:
    with pytest.raises(openai.NotFoundError, match=r"set embedder\.kind"):
        await served.openai.embeddings.create(model="default", input="x")


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "text-embedding-3-small"}, 404, "model"),
        ({"dimensions": 7}, 400, "dimensions"),
        ({"input": []}, 400, "input"),
        ({"input": [1, 2, 3]}, 400, "input[0]"),
        ({"input": ""}, 400, "input"),
    ],
)
async def test_a_bad_request_names_its_field(tmp_path: Path, fields: dict[str, Any], status: int, param: str) -> None:
    async with serving(tmp_path / "home", embedder={"kind": "hash"}) as served:
        answer = await served.http.post("/v1/embeddings", json={"model": "default", "input": "x", **fields})
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
