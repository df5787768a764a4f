"""What a caller asks for, checked and turned into terms and vectors; the same for the store and for a fork."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memory_store.embedders.base import Embedder, Vectors
from memory_store.plan import Vector, check_time, check_unicode
from memory_store.terms import query_terms
from recollect.errors import InvalidRequest
from recollect.memory import Filters, MemoryWrite, Ranking, SearchMode

MAX_LIMIT = 10_000
MAX_WEIGHT = 10.0
MAX_DAYS = 1e6
MAX_REACH = 20


@dataclass(frozen=True, slots=True)
class Query:
    """A search, ready to run."""

    terms: Sequence[str]
    vector: Vectors | None
    mode: SearchMode
    limit: int
    filters: Filters
    ranking: Ranking
    as_of: int | None


async def prepared(
    embedder: Embedder | None, text: str, mode: SearchMode, limit: int, filters: Filters, ranking: Ranking, as_of: int | None
) -> Query | None:
    """The query, or None for a text without a character to search for. Raises InvalidRequest, EmbedderError."""
    check_range(limit, 0, as_of)
    _check_filters(filters)
    _check_ranking(ranking)
    if mode == "dense" and embedder is None:
        raise InvalidRequest("there is no embedder, so mode 'dense' is impossible; use 'text', or set embedder.kind", param="mode")
    text = text.encode(errors="replace").decode()
    if not text.strip():
        return None
    vector = None if embedder is None or mode == "text" else (await embedder.embed([text]))[0]
    return Query(query_terms(text), vector, mode, limit, filters, ranking, as_of)


def check_range(limit: int, offset: int, as_of: int | None) -> None:
    """Refuse numbers out of range. Raises InvalidRequest."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit is {limit}; use 1 to {MAX_LIMIT}", param="limit")
    if offset < 0:
        raise InvalidRequest(f"offset is {offset}; use 0 or more", param="offset")
    if as_of is not None and as_of < 0:
        raise InvalidRequest(f"as_of is {as_of}; use 0 or more", param="as_of")


def _check_filters(filters: Filters) -> None:
    for number, tag in enumerate(filters.tags):
        check_unicode(tag, f"filters.tags.{number}")
    for number, tag in enumerate(filters.without_tags):
        check_unicode(tag, f"filters.without_tags.{number}")
    for name in ("since", "until", "valid_at"):
        check_time(getattr(filters, name), f"filters.{name}")


def _check_ranking(ranking: Ranking) -> None:
    for name in ("recency", "importance"):
        weight = getattr(ranking, name)
        if not 0 <= weight <= MAX_WEIGHT:
            raise InvalidRequest(f"{name} is {weight}; use a weight from 0 to {MAX_WEIGHT:.0f}", param=f"ranking.{name}")
    if not 0 < ranking.half_life_days < MAX_DAYS:
        raise InvalidRequest(f"half_life_days is {ranking.half_life_days}; use a number of days above 0", param="ranking.half_life_days")


def check_reach(reach: int) -> None:
    """Refuse a number of neighbours out of range. Raises InvalidRequest."""
    if not 0 <= reach <= MAX_REACH:
        raise InvalidRequest(f"reach is {reach}; use 0 to {MAX_REACH} neighbours on either side", param="reach")


async def vectors_of(embedder: Embedder | None, writes: Sequence[MemoryWrite]) -> Mapping[str, Vector]:
    """The vectors of all texts that are written, by text. Raises EmbedderError."""
    texts = list(dict.fromkeys(write.text for write in writes if write.op != "delete"))
    return {} if embedder is None or not texts else dict(zip(texts, await embedder.embed(texts), strict=True))
