"""Search inside LanceDB, for a namespace too large to hold in memory: exact cosine, and LanceDB's full text index."""

# pyright: basic
# because Arrow and Lance carry no types.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.index import FTS
from lancedb.query import MatchQuery

from memory_store.arrow import VECTOR, from_arrow, matrix
from memory_store.conditions import where
from memory_store.query import Query
from memory_store.scoring import Boosts, Floats, Parts, hits
from recollect.memory import Filters, SearchHit

MIN_POOL = 50
"""Candidates that each half of a hybrid search brings, at least; or four times the limit."""
TERMS_INDEX = FTS(
    base_tokenizer="whitespace", lower_case=False, stem=False, remove_stop_words=False, ascii_folding=False, max_token_length=None
)


async def search(table: Any, namespace: str, query: Query, seq: int) -> list[SearchHit]:
    """The best records as of `seq`, best first. The vector search is exact: an ANN index with a filter loses records."""
    condition = where(query.filters, seq)
    boosted = query.ranking.recency or query.ranking.importance
    pool = max(MIN_POOL, 4 * query.limit) if query.mode == "hybrid" or boosted else query.limit
    found: list[pa.Table] = []
    if query.vector is not None:
        found.append(await _nearest(table, query.vector, condition, pool))
    if query.mode != "dense" and query.terms:
        found.append(await _matching(table, query.terms, condition, pool))
    newest = await _newest(table, seq) if query.ranking.recency else None
    return _hits(_Candidates.of(found), namespace, query, newest)


async def _newest(table: Any, seq: int) -> datetime | None:
    """The latest time that a memory alive is about."""
    times = await table.query().where(where(Filters(), seq)).select({"about": "coalesce(valid_at, created_at)"}).to_arrow()
    return max((time for time in times["about"].to_pylist() if time is not None), default=None)


async def _nearest(table: Any, vector: Floats, condition: str, limit: int) -> pa.Table:
    query = table.query().nearest_to(vector).column(VECTOR).distance_type("cosine").bypass_vector_index()
    return await query.where(condition).limit(limit).to_arrow()


async def _matching(table: Any, terms: Sequence[str], condition: str, limit: int) -> pa.Table:
    if not any(index.index_type == "FTS" for index in await table.list_indices()):
        await table.create_index("terms", config=TERMS_INDEX)
    query = table.query().nearest_to_text(MatchQuery(" ".join(terms), "terms"))  # pyright: ignore[reportCallIssue] - they have defaults
    return await query.where(condition).limit(limit).to_arrow()


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Rows that either half of the search found, oldest first, with their BM25 scores (0: no term, or not among the best)."""

    rows: Sequence[pa.Table]
    texts: Floats

    @classmethod
    def of(cls, found: Sequence[pa.Table]) -> _Candidates:
        rows: dict[int, pa.Table] = {}
        texts: dict[int, float] = {}
        for table in found:
            keys: list[int] = table["key"].to_pylist()
            rows |= {key: table.slice(place, 1) for place, key in enumerate(keys)}
            if "_score" in table.column_names:
                texts = dict(zip(keys, table["_score"].to_pylist(), strict=True))
        keys = sorted(rows)
        return cls([rows[key] for key in keys], np.array([texts.get(key, 0.0) for key in keys], np.float32))


def _hits(found: _Candidates, namespace: str, query: Query, newest: datetime | None) -> list[SearchHit]:
    text = None if query.mode == "dense" else found.texts
    vector = query.vector
    dense = None if vector is None else np.array([_cosine(row, vector) for row in found.rows], np.float32)
    ranking = query.ranking
    boosts = Boosts()
    if ranking.recency or ranking.importance:
        boosts = Boosts.of(ranking, newest, [from_arrow(row, namespace)[0].record for row in found.rows])
    return hits(Parts(dense, text, boosts=boosts), query.limit, lambda i: from_arrow(found.rows[i], namespace)[0].record)


def _cosine(row: pa.Table, vector: Floats) -> float:
    vectors = matrix(row)
    return float("nan") if vectors is None else float(vectors[0] @ vector)
