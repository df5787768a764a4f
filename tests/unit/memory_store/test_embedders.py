"""Embedders: hashing, ONNX files, endpoints, the cache, and the choice among them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from memory_store.embedders import choose as choosing
from memory_store.embedders.base import Vectors
from memory_store.embedders.cached import CachedEmbedder
from memory_store.embedders.choose import choose, export_is_due
from memory_store.embedders.endpoint import EndpointEmbedder
from memory_store.embedders.files import MANIFEST, MODEL, TOKENIZER, file_sha256
from memory_store.embedders.hash import HashEmbedder
from memory_store.embedders.onnx import OnnxEmbedder
from recollect.errors import ConfigurationError, EmbedderError
from recollect.settings import EmbedderSettings

WORDS = ["[PAD]", "[UNK]", "red", "tea", "house"]


def write_tiny_model(folder: Path) -> None:
    """A lookup table of token vectors, (5, 4), without pooling: row i holds i + 1 at place i % 4."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    tokenizer.save(str(folder / TOKENIZER))
    table = np.zeros((5, 4), np.float32)
    table[np.arange(5), np.arange(5) % 4] = np.arange(1, 6)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["tokens"])],
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["batch", "length", 4])],
        [numpy_helper.from_array(table, "table")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(folder / MODEL))


def write_manifest(folder: Path) -> None:
    files = {name: file_sha256(folder / name) for name in (MODEL, TOKENIZER)}
    (folder / MANIFEST).write_text(json.dumps({"id": "tiny", "dimension": 4, "files": files}), "utf-8")


async def test_hash_vectors_are_of_unit_length_the_same_every_time_and_near_for_shared_words() -> None:
    tea, teas, car = await HashEmbedder().embed(["I like green tea", "she likes green teas", "the car broke down"])
    assert np.allclose(np.linalg.norm([tea, teas, car], axis=1), 1)
    assert np.array_equal((await HashEmbedder().embed(["I like green tea"]))[0], tea)
    assert tea @ teas > 0.3 > tea @ car
    assert np.linalg.norm((await HashEmbedder().embed(["🙂"]))[0]) == 1


async def test_an_onnx_folder_is_pooled_over_the_tokens_of_each_text_alone(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    embedder = OnnxEmbedder(tmp_path)
    assert embedder.dimension == 4
    assert embedder.id.startswith("onnx:")
    vectors = await embedder.embed(["red", "red red tea house house", "tea"])
    assert vectors.dtype == np.float32
    assert np.allclose(vectors[0], [0, 0, 1, 0])
    assert np.allclose(vectors[2], [0, 0, 0, 1])
    mean = np.array([10, 0, 6, 4]) / 5
    assert np.allclose(vectors[1], mean / np.linalg.norm(mean))
    assert (await embedder.embed([])).shape == (0, 4)


async def test_concurrent_single_requests_are_answered_each_with_its_own_vector(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    embedder = OnnxEmbedder(tmp_path)
    texts = [" ".join(["red", "tea", "house"][: 1 + i % 3] * (1 + i % 7)) for i in range(100)]
    together = await asyncio.gather(*(embedder.embed([text]) for text in texts))
    assert np.allclose(np.concatenate(together), await embedder.embed(texts), atol=1e-6)


async def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"model\.onnx"):
        OnnxEmbedder(tmp_path)
    write_tiny_model(tmp_path)
    write_manifest(tmp_path)
    assert OnnxEmbedder(tmp_path).id == "tiny"
    (tmp_path / MODEL).write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match=r"model\.onnx is damaged"):
        OnnxEmbedder(tmp_path)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        OnnxEmbedder(tmp_path)


class Counting(HashEmbedder):
    def __init__(self) -> None:
        super().__init__(8)
        self.asked: list[str] = []

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return await super().embed(texts)


async def test_the_cache_asks_for_each_text_once_and_keeps_the_last_ones() -> None:
    counting = Counting()
    cached = CachedEmbedder(counting, kept=2)
    twice = await cached.embed(["a", "b", "a"])
    assert np.array_equal(twice[0], twice[2])
    await cached.embed(["b", "a"])
    assert counting.asked == ["a", "b"]
    await cached.embed(["c"])
    await cached.embed(["b"])
    assert counting.asked == ["a", "b", "c", "b"]
    assert (await cached.embed([])).shape == (0, 8)


def answering(handler: httpx.Response | Exception) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(handler, Exception):
            raise handler
        return handler

    return httpx.MockTransport(handle)


async def test_an_endpoint_is_asked_in_batches_and_its_order_is_kept() -> None:
    seen: list[int] = []

    def handle(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        assert str(request.url) == "http://e/v1/embeddings"
        assert request.headers["authorization"] == "Bearer k"
        seen.append(len(body["input"]))
        items = [{"index": i, "embedding": [float(len(text)), 1.0]} for i, text in enumerate(body["input"])]
        return httpx.Response(200, json={"data": items[::-1]})

    embedder = await EndpointEmbedder.open("http://e/v1/", "m", "k", transport=httpx.MockTransport(handle))
    texts = ["x" * (1 + i % 9) for i in range(100)]
    vectors = await embedder.embed(texts)
    assert (embedder.dimension, embedder.id, seen) == (2, "endpoint:m", [1, 64, 36])
    assert np.allclose(vectors[:, 0] / vectors[:, 1], [len(text) for text in texts])
    await embedder.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(500, text="out of order"), "answered 500: out of order"),
        (httpx.ConnectError("refused"), "does not answer"),
        (httpx.Response(200, json={"data": []}), "shape"),
        (httpx.Response(200, json={"data": "x"}), "no list of embeddings"),
        (httpx.Response(200, text="<html>"), "no list of embeddings"),
    ],
)
async def test_an_endpoint_that_fails_is_an_error_that_names_it(answer: httpx.Response | Exception, words: str) -> None:
    with pytest.raises(EmbedderError, match=words) as caught:
        await EndpointEmbedder.open("http://e/v1", "m", transport=answering(answer))
    assert "http://e/v1/embeddings" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        (EmbedderSettings(kind="endpoint", model="m"), "embedder.url"),
        (EmbedderSettings(kind="endpoint", url="http://e/v1"), "embedder.model"),
        (EmbedderSettings(kind="onnx"), "embedder.model"),
        (EmbedderSettings(kind="onnx", model="BAAI/bge-small-en-v1.5"), "embedder.model"),
    ],
)
async def test_settings_that_miss_something_are_refused_by_name(tmp_path: Path, settings: EmbedderSettings, param: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await choose(settings, tmp_path)
    assert caught.value.param == param


async def test_auto_takes_what_was_exported_and_without_anything_warns_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choosing, "PACKAGES", ("no_such_package_at_all",))
    assert not export_is_due(EmbedderSettings(), tmp_path)
    with caplog.at_level(logging.WARNING):
        assert await choose(EmbedderSettings(), tmp_path) is None
    assert len(caplog.records) == 1
    assert "full text only" in caplog.text
    folder = tmp_path / "embedders" / "minilm"
    write_tiny_model(folder)
    write_manifest(folder)
    chosen = await choose(EmbedderSettings(), tmp_path)
    assert chosen is not None
    assert chosen.id == "tiny"
    assert await choose(EmbedderSettings(kind="none"), tmp_path) is None


async def test_an_export_that_fails_is_a_warning_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choosing, "PACKAGES", ())
    (tmp_path / "embedders").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING):
        assert await choose(EmbedderSettings(), tmp_path) is None
    assert "the export of MiniLM failed: " in caplog.text


@pytest.mark.full
async def test_minilm_is_exported_once_and_equals_torch(tmp_path: Path) -> None:
    assert export_is_due(EmbedderSettings(), tmp_path)
    first, second = await asyncio.gather(choose(EmbedderSettings(), tmp_path), choose(EmbedderSettings(), tmp_path))
    assert first is not None
    assert second is not None
    assert (first.id, first.dimension) == ("sentence-transformers/all-MiniLM-L6-v2", 384)
    manifest = json.loads((tmp_path / "embedders" / "minilm" / MANIFEST).read_text("utf-8"))
    assert manifest["difference_from_torch"] < 1e-4
    near, far = await first.embed(["A man is eating food.", "Someone eats a meal."]), await first.embed(["The stock market fell."])
    assert near[0] @ near[1] > 0.5 > near[0] @ far[0]
