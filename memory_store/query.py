"""What a caller asks for, checked and turned into terms and vectors; the same for the store and for a fork."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memory_store.embedders.base import Embedder, Vectors
from memory_store.plan import Vector
from memory_store.terms import query_terms
from recollect.errors import InvalidRequest
from recollect.memory import Kind, MemoryWrite, SearchMode

MAX_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Query:
    """A search, ready to run."""

    terms: Sequence[str]
    vector: Vectors | None
    mode: SearchMode
    limit: int
    kind: Kind | None
    as_of: int | None


async def prepared(
    embedder: Embedder | None, text: str, mode: SearchMode, limit: int, kind: Kind | None, as_of: int | None
) -> Query | None:
    """The query, or None for a text without a character to search for. Raises InvalidRequest, EmbedderError."""
    check_range(limit, 0, as_of)
    if mode == "dense" and embedder is None:
        raise InvalidRequest("there is no embedder, so mode 'dense' is impossible; use 'text', or set embedder.kind", param="mode")
    text = text.encode(errors="replace").decode()
    if not text.strip():
        return None
    vector = None if embedder is None or mode == "text" else (await embedder.embed([text]))[0]
    return Query(query_terms(text), vector, mode, limit, kind, as_of)


def check_range(limit: int, offset: int, as_of: int | None) -> None:
    """Refuse numbers out of range. Raises InvalidRequest."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit is {limit}; use 1 to {MAX_LIMIT}", param="limit")
    if offset < 0:
        raise InvalidRequest(f"offset is {offset}; use 0 or more", param="offset")
    if as_of is not None and as_of < 0:
        raise InvalidRequest(f"as_of is {as_of}; use 0 or more", param="as_of")


async def vectors_of(embedder: Embedder | None, writes: Sequence[MemoryWrite]) -> Mapping[str, Vector]:
    """The vectors of all texts that are written, by text. Raises EmbedderError."""
    texts = list(dict.fromkeys(write.text for write in writes if write.op != "delete"))
    return {} if embedder is None or not texts else dict(zip(texts, await embedder.embed(texts), strict=True))
