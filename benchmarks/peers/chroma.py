"""Chroma's PersistentClient: a collection a namespace (layout `collections`), or one collection and a metadata filter (`filter`)."""

# pyright: basic, reportMissingImports=false
# because Chroma is not installed where this is checked.

from __future__ import annotations

import tempfile
from typing import Any

import chromadb

from benchmarks.peers.job import LIMIT, Job, Rows, Told, main, time_searches, time_writes

BATCH = 1_000


def _client(folder: str) -> Any:
    settings = chromadb.Settings(anonymized_telemetry=False)
    return chromadb.PersistentClient(path=folder, settings=settings)


def _collection(client: Any, name: str) -> Any:
    return client.create_collection(name, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)


def search(job: Job, rows: Rows) -> Told:
    """The ten nearest by Chroma's own approximate index: it ranks by vectors alone."""
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        client = _client(folder)
        apart = job.layout == "collections"
        count = max(1, job.namespaces) if apart else 1
        collections = [_collection(client, f"bench-{i}") for i in range(count)]
        size = len(rows.texts) // count
        for start in range(0, len(rows.texts), min(size, BATCH)):
            places = range(start, min(start + min(size, BATCH), len(rows.texts)))
            collections[start // size if apart else 0].add(
                ids=[str(i) for i in places],
                embeddings=rows.vectors[places.start : places.stop],
                documents=rows.texts[places.start : places.stop],
                metadatas=[{"user": rows.owner(i, job)} for i in places],
            )

        def one(number: int) -> list[int]:
            owner = number % job.namespaces if job.namespaces else 0
            where = {"where": {"user": owner}} if job.layout == "filter" else {}
            collection = collections[owner if apart else 0]
            found = collection.query(query_embeddings=[rows.asked_vectors[number]], n_results=LIMIT, **where)
            return [int(i) for i in found["ids"][0]]

        return time_searches(one, rows, job)


def writes(job: Job, rows: Rows) -> Told:
    """One `add` a row."""
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        collection = _collection(_client(folder), "bench")

        def one(row: int) -> None:
            collection.add(ids=[str(row)], embeddings=[rows.vectors[row]], documents=[rows.texts[row]])

        return time_writes(one, rows, job)


if __name__ == "__main__":
    main(search, writes)
