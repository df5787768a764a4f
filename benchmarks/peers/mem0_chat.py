"""A chat with mem0 OSS as its own documents write it: search, put what was found into the prompt, ask the model, add the turn.

MiniLM runs in this process by onnxruntime, as in Recollect; memories are in its local Qdrant on the disk; the model is behind HTTP.
"""

# pyright: basic, reportMissingImports=false
# because mem0 is not installed where this is checked.

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from mem0 import Memory
from mem0.embeddings.base import EmbeddingBase
from mem0.utils.factory import EmbedderFactory
from openai import OpenAI
from tokenizers import Tokenizer

from benchmarks.peers.mem0_oss import payload

SYSTEM = "You are a helpful AI. Answer the question based on query and memories.\nUser Memories:\n{memories}"
BATCH = 32
THREADS = 2
MAX_TOKENS = 256
MODEL: list[Path] = []


class OnnxEmbedding(EmbeddingBase):
    """The exported MiniLM: vectors of unit length."""

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._tokenizer = Tokenizer.from_file(str(MODEL[0] / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(MODEL[0] / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        return self.embed_batch([text])[0]

    def embed_batch(self, texts: list[str], memory_action: str | None = "add") -> list[list[float]]:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([one.ids for one in encoded], np.int64)
        mask = np.array([one.attention_mask for one in encoded], np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        wanted = {one.name for one in self._session.get_inputs()}
        vectors: Any = self._session.run(None, {name: array for name, array in feed.items() if name in wanted})[0]
        return vectors.tolist()


def opened(folder: str, url: str) -> Any:
    """mem0 with this embedder, a Qdrant in the folder and the model at the URL."""
    # mem0 takes no embedder but those of its list: the entry of one that is not used here is pointed at ours.
    EmbedderFactory.provider_to_class["lmstudio"] = f"{__name__}.OnnxEmbedding"
    logging.disable(logging.WARNING)
    store = {"path": f"{folder}/qdrant", "on_disk": True, "embedding_model_dims": 384, "collection_name": "bench"}
    return Memory.from_config(
        {
            "embedder": {"provider": "lmstudio", "config": {}},
            "vector_store": {"provider": "qdrant", "config": store},
            "llm": {"provider": "openai", "config": {"api_key": "none", "openai_base_url": f"{url}/v1", "model": "stub"}},
            "history_db_path": f"{folder}/history.db",
        }
    )


def fill(memory: Any, texts: list[str], user: str) -> None:
    """Below `add`, with the payload that it writes: no model is asked about what was there before."""
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        ids = [str(uuid.UUID(int=start + place)) for place in range(len(part))]
        memory.vector_store.insert(
            vectors=memory.embedding_model.embed_batch(part), ids=ids, payloads=[payload(text, user) for text in part]
        )


def turn(memory: Any, model: OpenAI, text: str, user: str, limit: int) -> tuple[float, float, float, int]:
    """Seconds to the answer's first word, to its end, and until the turn was added; how many memories were shown."""
    began, first = time.perf_counter(), 0.0
    found = memory.search(text, top_k=limit, filters={"user_id": user})["results"]
    system = SYSTEM.format(memories="\n".join(f"- {one['memory']}" for one in found))
    messages: Any = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    said = ""
    for chunk in model.chat.completions.create(model="stub", messages=messages, stream=True):
        said += chunk.choices[0].delta.content or ""
        if said and not first:
            first = time.perf_counter() - began
    answered = time.perf_counter() - began
    memory.add([{"role": "user", "content": text}, {"role": "assistant", "content": said}], user_id=user)
    return first, answered, time.perf_counter() - began, len(found)


def main() -> None:
    """The job of the command line; prints its turns as the last line."""
    job = json.loads(sys.argv[1])
    MODEL.append(Path(job["embedder"]))
    said = json.loads((Path(job["folder"]) / "said.json").read_text("utf-8"))
    with tempfile.TemporaryDirectory(dir=job["folder"]) as folder:
        memory, model = opened(folder, job["url"]), OpenAI(base_url=f"{job['url']}/v1", api_key="none")
        fill(memory, said["before"], job["user"])
        turns = [turn(memory, model, text, job["user"], job["limit"]) for text in said["turns"]]
        kept = len(memory.get_all(filters={"user_id": job["user"]}, top_k=100_000)["results"])
    print(json.dumps({"turns": turns, "kept": kept - len(said["before"])}))


if __name__ == "__main__":
    main()
