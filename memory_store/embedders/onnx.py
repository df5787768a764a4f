"""A sentence encoder as an ONNX file, run by onnxruntime in this process, without torch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray
from tokenizers import Tokenizer

from memory_store.embedders.base import Vectors, unit
from memory_store.embedders.files import MANIFEST, MAX_TOKENS, MODEL, TOKENIZER, file_sha256, read_manifest
from recollect.errors import ConfigurationError, EmbedderError

BATCH = 32
THREADS = 2
Inputs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


class OnnxEmbedder:
    """A folder with model.onnx and tokenizer.json. Texts beyond 256 tokens are cut.

    Requests that arrive while the model runs are computed together next, at most 32 texts at once.
    """

    def __init__(self, folder: Path) -> None:
        """Load the folder (about 0.1 s; call in a thread). Raises ConfigurationError."""
        missing = [name for name in (MODEL, TOKENIZER) if not (folder / name).is_file()]
        if missing:
            raise ConfigurationError(
                f"{folder} holds no {missing[0]}; export an embedder there, or set embedder.model", param="embedder.model"
            )
        known = read_manifest(folder) if (folder / MANIFEST).is_file() else {}
        try:
            self._tokenizer = load_tokenizer(folder / TOKENIZER)
            self._session = open_session(folder / MODEL)
        except Exception as exc:
            raise ConfigurationError(f"the embedder in {folder} cannot be loaded: {exc}", param="embedder.model") from exc
        self._dimension = int(self._run(["probe"]).shape[1])
        self._id = str(known.get("id") or f"onnx:{file_sha256(folder / MODEL)[:16]}")
        self._waiting: list[tuple[list[str], asyncio.Future[Vectors]]] = []
        self._worker: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        return self._id

    @property
    def dimension(self) -> int:
        return self._dimension

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (len(texts), dimension). Raises EmbedderError."""
        if not texts:
            return np.zeros((0, self._dimension), np.float32)
        future: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
        self._waiting.append((list(texts), future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            requests, self._waiting = self._waiting, []
            try:
                vectors = await asyncio.to_thread(self._run, [text for texts, _ in requests for text in texts])
            except Exception as exc:  # noqa: BLE001 - whatever the runtime raises belongs to the callers, not to this task
                for _, future in requests:
                    if not future.done():
                        future.set_exception(EmbedderError(f"the embedder failed: {exc}"))
                continue
            start = 0
            for texts, future in requests:
                if not future.done():
                    future.set_result(vectors[start : start + len(texts)])
                start += len(texts)

    def _run(self, texts: list[str]) -> Vectors:
        """Batches of texts of like length, so that little is padded."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        computed = [run(self._session, encode(self._tokenizer, [texts[i] for i in part])) for part in parts]
        vectors = np.empty((len(texts), computed[0].shape[1]), np.float32)
        for part, block in zip(parts, computed, strict=True):
            vectors[part] = block
        if not np.isfinite(vectors).all():
            raise EmbedderError("the embedder returned a vector that is not finite")
        return unit(vectors)


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer, cutting at 256 tokens and padding to the longest text."""
    tokenizer: Any = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> Inputs:
    """input_ids, attention_mask and token_type_ids, each of shape (texts, longest)."""
    encoded = tokenizer.encode_batch(texts)
    ids = np.array([e.ids for e in encoded], np.int64)
    mask = np.array([e.attention_mask for e in encoded], np.int64)
    return ids, mask, np.zeros_like(ids)


def open_session(path: Path) -> Any:
    """An inference session on at most two threads."""
    runtime = cast(Any, onnxruntime)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    # A waiting thread sleeps: the engine on the same cores needs them more.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: Any, inputs: Inputs) -> Vectors:
    """The first output. An output of token vectors (3-d) is averaged over the mask; a model without token types gets none."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    wanted = {i.name for i in session.get_inputs()}
    feed = {name: array for name, array in zip(names, inputs, strict=True) if name in wanted}
    output: NDArray[np.float32] = session.run(None, feed)[0]
    if output.ndim == 3:
        mask = inputs[1][:, :, None].astype(np.float32)
        output = (output * mask).sum(1) / np.maximum(mask.sum(1), 1e-9)
    return output
