"""mem0 OSS with its own local Qdrant on disk and `infer=False`: no language model, and vectors that were made beforehand."""

# pyright: basic, reportMissingImports=false
# because mem0 is not installed where this is checked.

from __future__ import annotations

import logging
import tempfile
import uuid
from typing import Any

from mem0 import Memory
from mem0.embeddings.base import EmbeddingBase
from mem0.utils.factory import EmbedderFactory

from benchmarks.peers.job import LIMIT, Job, Rows, Told, main, time_searches, time_writes

BATCH = 1_000
GIVEN: dict[str, list[float]] = {}


class GivenEmbedding(EmbeddingBase):
    """Looks the vector of a text up."""

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        return GIVEN[text]


def _memory(folder: str, dimension: int) -> Any:
    # mem0 takes no embedder but those of its list: the entry of one that is not used here is pointed at ours.
    EmbedderFactory.provider_to_class["lmstudio"] = f"{__name__}.GivenEmbedding"
    logging.disable(logging.WARNING)
    store = {"path": f"{folder}/qdrant", "on_disk": True, "embedding_model_dims": dimension, "collection_name": "bench"}
    return Memory.from_config(
        {
            "embedder": {"provider": "lmstudio", "config": {}},
            "vector_store": {"provider": "qdrant", "config": store},
            "llm": {"provider": "openai", "config": {"api_key": "never called"}},
            "history_db_path": f"{folder}/history.db",
        }
    )


def search(job: Job, rows: Rows) -> Told:
    """`Memory.search` of a user's ten best. The rows go in below `add`, in batches, with the payload that `add` writes."""
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        memory = _memory(folder, rows.vectors.shape[1])
        for start in range(0, len(rows.texts), BATCH):
            places = range(start, min(start + BATCH, len(rows.texts)))
            memory.vector_store.insert(
                vectors=rows.vectors[places.start : places.stop].tolist(),
                ids=[str(uuid.UUID(int=i)) for i in places],
                payloads=[payload(rows.texts[i], str(rows.owner(i, job))) for i in places],
            )
        GIVEN.update(zip(rows.asked, rows.asked_vectors.tolist(), strict=True))

        def one(number: int) -> list[int]:
            owner = str(number % job.namespaces if job.namespaces else 0)
            found = memory.search(rows.asked[number], top_k=LIMIT, filters={"user_id": owner}, threshold=0.0)
            return [uuid.UUID(hit["id"]).int for hit in found["results"]]

        return time_searches(one, rows, job)


def payload(text: str, user: str) -> dict[str, str]:
    """What `add` writes beside a vector."""
    time = "2026-01-01T00:00:00+00:00"
    return {"data": text, "hash": "", "created_at": time, "updated_at": time, "text_lemmatized": text, "user_id": user, "role": "user"}


def writes(job: Job, rows: Rows) -> Told:
    """One `Memory.add` a row."""
    GIVEN.update(zip(rows.texts, rows.vectors.tolist(), strict=True))
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        memory = _memory(folder, rows.vectors.shape[1])
        return time_writes(lambda row: memory.add(rows.texts[row], user_id="bench", infer=False), rows, job)


if __name__ == "__main__":
    main(search, writes)
