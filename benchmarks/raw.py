"""The raw LanceDB table that our store is measured against: the same rows, the same terms, exact vectors, answers as Python objects."""

# pyright: basic
# because LanceDB carries no types.

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from lancedb.index import FTS
from lancedb.query import MatchQuery
from lancedb.rerankers import RRFReranker

from benchmarks.rows import DIMENSION, Rows
from memory_store.terms import query_terms, terms_of

FIELDS = ["id", "text"]
LIMIT = 10
WORDS = FTS(base_tokenizer="whitespace", lower_case=False, stem=False, remove_stop_words=False, ascii_folding=False, max_token_length=None)
"""The terms are cut and stemmed by us, for both sides; LanceDB's index takes them as they are."""


class RawTable:
    """A table with a full text index and no vector index: its dense search is exact, as ours is."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._reranker = RRFReranker()

    @classmethod
    async def create(cls, connection: Any, name: str, batches: Iterable[Rows], spaces: list[str] | None = None) -> RawTable:
        """Write the batches and build the index. `spaces` are the values of a column to filter by, one a row."""
        table, done = await connection.create_table(name, schema=_schema(spaces is not None)), 0
        for batch in batches:
            await table.add(_arrow(batch, done, spaces))
            done += len(batch.texts)
        await table.optimize()
        await table.create_index("terms", config=WORDS)
        return cls(table)

    async def index_spaces(self) -> RawTable:
        """Index the column that is filtered by."""
        from lancedb.index import Bitmap

        await self._table.create_index("space", config=Bitmap())
        return self

    async def search(self, mode: str, text: str, vector: Any, where: str | None = None) -> list[dict[str, Any]]:
        """The best ten rows."""
        query = self._table.query()
        if mode != "text":
            query = query.nearest_to(vector).distance_type("cosine")
        if mode != "dense":
            query = query.nearest_to_text(MatchQuery(" ".join(query_terms(text)), "terms"))  # pyright: ignore[reportCallIssue] - they have defaults
        if mode == "hybrid":
            query = query.rerank(self._reranker)
        if where:
            query = query.where(where)
        scores = {"dense": ["_distance"], "text": ["_score"], "hybrid": []}
        return await query.select([*FIELDS, *scores[mode]]).limit(LIMIT).to_list()


def _schema(with_space: bool) -> pa.Schema:
    fields = [pa.field("id", pa.string()), pa.field("text", pa.string()), pa.field("terms", pa.string())]
    space = [pa.field("space", pa.string())] if with_space else []
    return pa.schema([*fields, *space, pa.field("vector", pa.list_(pa.float32(), DIMENSION))])


def _arrow(batch: Rows, first: int, spaces: list[str] | None) -> pa.Table:
    count = len(batch.texts)
    columns: list[Any] = [[f"m{first + i}" for i in range(count)], batch.texts, [" ".join(terms_of(text)) for text in batch.texts]]
    if spaces is not None:
        columns.append(spaces[first : first + count])
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(batch.vectors.ravel()), DIMENSION)
    return pa.table([*(pa.array(column) for column in columns), vectors], schema=_schema(spaces is not None))
