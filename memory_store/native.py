"""Search inside LanceDB, for a namespace too large to hold in memory: exact cosine, and LanceDB's full text index."""

# pyright: basic
# because Arrow and Lance carry no types.

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pyarrow_compute
from lancedb.index import FTS
from lancedb.query import MatchQuery

from memory_store.arrow import VECTOR, from_arrow, matrix, schema
from memory_store.conditions import where
from memory_store.location import Location, writing
from memory_store.query import Query
from memory_store.rows import OPEN
from memory_store.scoring import Boosts, Floats, Parts, ranked
from recollect.memory import Filters, MemoryRecord, SearchHit

MIN_POOL = 50
"""Candidates that each half of a hybrid search brings, at least; or four times the limit."""
COLUMNS = schema("", None, 0).names
KEYS = ("key", "seq_to")
SPARE = 8
"""Rows asked for beyond them, and a quarter more, where no filter is given: it costs more than leaving closed rows out afterwards."""
TERMS_INDEX = FTS(
    base_tokenizer="whitespace", lower_case=False, stem=False, remove_stop_words=False, ascii_folding=False, max_token_length=None
)
pc = cast(Any, pyarrow_compute)


async def search(table: Any, namespace: str, query: Query, seq: int) -> list[SearchHit]:
    """The best records as of `seq`, best first. The vector search is exact: an ANN index with a filter loses records."""
    condition = None if query.as_of is None and query.filters == Filters() else where(query.filters, seq)
    boosted = query.ranking.recency or query.ranking.importance
    pool = max(MIN_POOL, 4 * query.limit) if query.mode == "hybrid" or boosted else query.limit
    # Where all candidates are hits, they come whole; of many, the few best are fetched afterwards.
    columns = KEYS if query.mode == "hybrid" or boosted else COLUMNS
    found = _Candidates(namespace)
    if query.vector is not None:
        nearest = table.query().nearest_to(query.vector).column(VECTOR).distance_type("cosine").bypass_vector_index()
        found.add_nearest(await _alive(nearest.select([*columns, "_distance"]), condition, pool, seq))
    if query.mode != "dense" and query.terms:
        matching = MatchQuery(" ".join(query.terms), "terms")  # pyright: ignore[reportCallIssue] - they have defaults
        matches = table.query().nearest_to_text(matching).select([*columns, "_score"])
        found.add_matching(await _alive(matches, condition, pool, seq))
    if query.vector is not None:
        await found.add_cosines(table, query.vector)
    return await _hits(table, namespace, query, found, seq)


async def indexed(table: Any, location: Location, query: Query) -> None:
    """Make the full text index that a query needs, if there is none. Not while an erasure goes on, whose last act is to look for one."""
    if query.mode == "dense" or not query.terms or await _has_index(table):
        return
    with ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, writing(location))
        if not await _has_index(table):
            await table.create_index("terms", config=TERMS_INDEX)


async def _has_index(table: Any) -> bool:
    return any(index.index_type == "FTS" for index in await table.list_indices())


async def _alive(query: Any, condition: str | None, count: int, seq: int) -> pa.Table:
    """The best `count` rows that the condition lets pass; without one, of those that are current."""
    query = query.with_row_id()
    if condition is None:
        asked = count + SPARE + count // 4
        best = await query.limit(asked).to_arrow()
        alive = best.filter(pc.equal(best["seq_to"], OPEN))
        if alive.num_rows >= count or best.num_rows < asked:
            return alive.slice(0, count)
    return await query.where(condition or where(Filters(), seq)).limit(count).to_arrow()


@dataclass(slots=True)
class _Candidates:
    """Rows that either half of the search found, by key: where they lie, their cosines, and BM25 scores of those found by terms."""

    namespace: str
    row_ids: dict[int, int] = field(default_factory=dict[int, int])
    records: dict[int, MemoryRecord] = field(default_factory=dict[int, MemoryRecord])
    """Of rows that came whole."""
    texts: dict[int, float] = field(default_factory=dict[int, float])
    cosines: dict[int, float] = field(default_factory=dict[int, float])

    def add_nearest(self, rows: pa.Table) -> None:
        self._add(rows)
        self.cosines = {key: 1 - distance for key, distance in zip(_list(rows, "key"), _list(rows, "_distance"), strict=True)}

    def add_matching(self, rows: pa.Table) -> None:
        self._add(rows)
        self.texts = dict(zip(_list(rows, "key"), _list(rows, "_score"), strict=True))

    def _add(self, rows: pa.Table) -> None:
        self.row_ids |= zip(_list(rows, "key"), _list(rows, "_rowid"), strict=True)
        if "text" in rows.column_names:
            self.records |= {row.key: row.record for row in from_arrow(rows, self.namespace)}

    async def add_cosines(self, table: Any, vector: Floats) -> None:
        """Those of rows that were found by their terms alone."""
        missing = [key for key in self.row_ids if key not in self.cosines]
        if missing:
            rows = await self.rows(table, missing, ["key", VECTOR])
            found = matrix(rows)
            assert found is not None
            self.cosines |= zip(_list(rows, "key"), (found @ vector).tolist(), strict=True)

    async def rows(self, table: Any, keys: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Some of the rows. Where they lie may have changed since they were found: then they are looked up by their keys."""
        rows = await table.take_row_ids([self.row_ids[key] for key in keys]).select(list(columns)).to_arrow()
        if set(_list(rows, "key")) == set(keys):
            return rows
        wanted = ", ".join(str(key) for key in keys)
        return await table.query().where(f"key IN ({wanted})").select(list(columns)).to_arrow()


async def _hits(table: Any, namespace: str, query: Query, found: _Candidates, seq: int) -> list[SearchHit]:
    """Of the rows found, the best. What was erased since it was found is passed over."""
    keys = sorted(found.row_ids)
    ranking = query.ranking
    records: dict[int, MemoryRecord] = {}
    boosts = Boosts()
    if ranking.recency or ranking.importance:
        records = await _records(table, namespace, found, keys)
        keys = sorted(records)
        newest = await _newest(table, seq) if ranking.recency else None
        boosts = Boosts.of(ranking, newest, [records[key] for key in keys])
    text = None if query.mode == "dense" else np.array([found.texts.get(key, 0.0) for key in keys], np.float32)
    dense = None if query.vector is None else np.array([found.cosines.get(key, np.nan) for key in keys], np.float32)
    parts = Parts(dense, text, boosts=boosts)
    best = ranked(parts, query.limit)
    records = records or await _records(table, namespace, found, [keys[place] for place, _ in best])
    return [SearchHit(record=records[keys[place]], score=score, parts=parts.of(place)) for place, score in best if keys[place] in records]


async def _records(table: Any, namespace: str, found: _Candidates, keys: Sequence[int]) -> dict[int, MemoryRecord]:
    if not keys or all(key in found.records for key in keys):
        return {key: found.records[key] for key in keys}
    return {row.key: row.record for row in from_arrow(await found.rows(table, keys, COLUMNS), namespace)}


async def _newest(table: Any, seq: int) -> datetime | None:
    """The latest time that a memory alive is about."""
    times = await table.query().where(where(Filters(), seq)).select({"about": "coalesce(valid_at, created_at)"}).to_arrow()
    return max((time for time in times["about"].to_pylist() if time is not None), default=None)


def _list(rows: pa.Table, column: str) -> list[Any]:
    return rows[column].to_pylist()
