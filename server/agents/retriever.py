"""Finds the memories that bear on a text, in an order that does not change from one turn to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from recollect.memory import Filters, MemoryRecord, SearchHit
from recollect.settings import AgentSettings
from recollect.trajectory import MemoryRef
from server.agents.base import AgentContext
from server.agents.wiring import ModuleOptions, Wiring, module

ALL = Filters()
QUERY_CHARS = 2_000
"""Of a longer text the end is searched for: what is asked stands after what was pasted."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A memory that was found, its score, and the text to show: the record's, cut where it alone is longer than the budget."""

    record: MemoryRecord
    score: float
    text: str

    @property
    def ref(self) -> MemoryRef:
        return MemoryRef(id=self.record.id, score=self.score, content_hash=self.record.content_hash, trust=self.record.trust)


class RetrieverOptions(ModuleOptions):
    """How many memories are shown."""

    limit: int = Field(ge=1, le=100)
    max_chars: int = Field(ge=1)

    @classmethod
    def defaults(cls, settings: AgentSettings) -> dict[str, object]:
        return {"limit": settings.retrieve, "max_chars": settings.memory_chars}


@module("retriever", "hybrid")
@dataclass(frozen=True, slots=True)
class Retriever:
    """Hybrid search for the best `limit` memories that `filters` let pass, of which as many are kept as `max_chars` hold."""

    Options: ClassVar = RetrieverOptions

    limit: int
    max_chars: int
    filters: Filters = ALL

    @classmethod
    def build(cls, options: RetrieverOptions, wiring: Wiring) -> Retriever:
        return cls(options.limit, options.max_chars)

    async def search(self, query: str, ctx: AgentContext) -> list[Recalled]:
        """The memories found for `query`, oldest first. Raises EmbedderError: a failed search is not an empty one."""
        hits = await ctx.store.search(ctx.namespace, query[-QUERY_CHARS:], limit=self.limit, filters=self.filters)
        return in_order(within(hits, self.max_chars))


def within(hits: Sequence[SearchHit], max_chars: int) -> list[Recalled]:
    """The best hits whose texts are together at most `max_chars` long, best first; the best of all is cut rather than left out."""
    kept: list[Recalled] = []
    left = max_chars
    for hit in sorted(hits, key=lambda h: h.score, reverse=True):
        text = hit.record.text if kept else hit.record.text[:max_chars]
        if len(text) > left:
            break
        kept.append(Recalled(hit.record, hit.score, text))
        left -= len(text)
    return kept


def in_order(memories: list[Recalled]) -> list[Recalled]:
    """Oldest first, so that the same memories make the same prompt whatever their scores."""
    return sorted(memories, key=lambda m: (m.record.seq_from, m.record.id))
