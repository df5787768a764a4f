"""RMM's reranker as a module: the best M of the candidates by vectors that learn from citations (arXiv 2503.08026)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from pydantic import Field

from memory_store.embedders.base import Embedded, EmbeddingStore
from recollect.settings import AgentSettings
from recollect.trajectory import Step
from server.agents.base import AgentContext
from server.agents.retriever import QUERY_CHARS, Recalled, in_order
from server.agents.rmm.online import Choice
from server.agents.rmm.scoring import Weights, best, scores
from server.agents.wiring import ModuleOptions, Wiring, module
from server.engines.base import Sampling

ROLE = "reranker"
CITED, NOT_CITED = 1.0, -1.0


class RerankerOptions(ModuleOptions):
    """How many of the candidates are kept."""

    limit: int = Field(ge=1, le=100)

    @classmethod
    def defaults(cls, settings: AgentSettings) -> dict[str, object]:
        return {"limit": settings.rmm.shown}


@module("reranker", "learned")
@dataclass(frozen=True, slots=True)
class EmbeddingReranker:
    """Keeps `limit` candidates by vectors that learn from citations.

    Where nobody learns (rollouts) it goes by cosine, and without vectors by the search's own score.
    """

    Options: ClassVar = RerankerOptions

    limit: int

    @classmethod
    def build(cls, options: RerankerOptions, wiring: Wiring) -> EmbeddingReranker:
        return cls(options.limit)

    async def rerank(
        self, query: str, candidates: Sequence[Recalled], ctx: AgentContext, *, sampling: Sampling = Sampling()
    ) -> list[Recalled]:
        """The chosen, oldest first, scored by q'.m'. All candidates are recorded with their scores. Raises EmbedderError."""
        if len(candidates) <= self.limit:
            return in_order(list(candidates))
        embedded = None
        if isinstance(ctx.store, EmbeddingStore):
            embedded = await ctx.store.embed([query[-QUERY_CHARS:], *(m.record.text for m in candidates)])
        if embedded is None:
            return in_order(sorted(candidates, key=lambda m: m.score, reverse=True)[: self.limit])
        choice = await asyncio.to_thread(self._choose, embedded, ctx)
        scored = [replace(m, score=float(score)) for m, score in zip(candidates, choice.scores, strict=True)]
        ctx.recorder.begin_operation(ROLE, retrieved=[m.ref for m in scored])
        return in_order([scored[place] for place in choice.chosen])

    async def learn(self, answer: Step, ctx: AgentContext) -> None:
        """Learn from an answer: a memory that it was shown earns +1 if it cites it, else -1. No-op where nobody learns."""
        ranked = ctx.recorder.of_role(ROLE)
        if ctx.rerankers is None or not ranked:
            return
        rewards = _rewards({ref.id: place for place, ref in enumerate(ranked[-1].retrieved)}, answer)
        await asyncio.to_thread(ctx.rerankers.learn, ctx.namespace.tenant, ctx.recorder.trajectory_id, rewards)

    def _choose(self, embedded: Embedded, ctx: AgentContext) -> Choice:
        query, memories = embedded.vectors[0], embedded.vectors[1:]
        if ctx.rerankers is None:
            plain = scores(Weights.identity(len(query)), query, memories)
            return Choice(best(plain, self.limit), plain)
        reranker = ctx.rerankers.of(ctx.namespace.tenant, embedded.space, len(query))
        return reranker.draw(ctx.recorder.trajectory_id, query, memories, self.limit)


def _rewards(places: Mapping[str, int], answer: Step) -> dict[int, float]:
    shown = [ref.id for ref in answer.retrieved if ref.id in places]
    return {places[memory_id]: CITED if memory_id in answer.cited else NOT_CITED for memory_id in shown}
