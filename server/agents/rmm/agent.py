"""The `rmm` agent: Reflective Memory Management (arXiv 2503.08026), with a reranker that learns online from the answers' citations.

Section 4.1 of the paper, for each turn: search K, rerank to M, answer with citations in one call, learn from the citations after the
answer has gone out, keep the turn. `reflect` is what happens when a session has ended.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from recollect.errors import ConfigurationError
from recollect.memory import MAX_TEXT, MemoryRecord, MemoryWrite
from recollect.messages import Message
from recollect.trajectory import MemoryOp, Step
from server.agents.agent_config import AgentConfig
from server.agents.answerer import ROLE as ANSWERER
from server.agents.answerer import Answerer
from server.agents.base import AgentContext, AgentRequest, StreamEvent
from server.agents.config_hash import config_hash
from server.agents.memory import MemoryAgent
from server.agents.memory_ids import memory_id, provenance
from server.agents.modules import Reranker
from server.agents.retriever import Recalled, Retriever
from server.agents.rmm.extractor import TopicExtractor
from server.agents.rmm.merger import TopicMerger
from server.agents.rmm.policy_reranker import PolicyReranker
from server.agents.rmm.reflection import Reflection
from server.agents.rmm.reranker import EmbeddingReranker, RerankerOptions
from server.agents.rmm.topics import with_turns, without_covered
from server.agents.turns import joined_user_turns, last_words
from server.agents.verbatim import words
from server.agents.wiring import ModuleOptions, Wiring, flow, needed

ANSWER_WRITER = "answer_writer"
NO_CITATION = "[none]"
SPARE = 2
"""Times K are searched for: of what is found, turns that a topic memory shows and what the conversation holds are left out."""
CANDIDATE_CHARS = 1_000_000
"""Candidates are not shown as they are: what is shown has the budget."""


@dataclass(frozen=True, slots=True)
class RmmAgent:
    """`turns` keeps the user's turns as they were said, as `memory` does. With `keeps_answers` what was answered is a raw turn too."""

    id: str
    config_hash: str
    aliases: frozenset[str]
    answerer: Answerer
    retriever: Retriever
    reranker: Reranker
    reflection: Reflection
    turns: MemoryAgent
    candidates: int
    memory_chars: int
    keeps_answers: bool
    reflects_at_end: bool
    conversational: bool = True

    async def run(self, request: AgentRequest, ctx: AgentContext) -> AsyncGenerator[StreamEvent, None]:
        """Answer with the memories that the reranker chose, each with its raw turns."""
        conversation = joined_user_turns(self.answerer.fence.clean(request.messages))
        question = last_words(conversation)
        memories = await self._recalled(question, conversation, request, ctx) if request.use_memory and question.strip() else []
        async with aclosing(self.answerer.answer(conversation, memories, request, ctx)) as events:
            async for event in events:
                yield event

    async def acknowledge(self, request: AgentRequest, ctx: AgentContext) -> None:
        """Commit the user's turn as it was said."""
        await self.turns.acknowledge(request, ctx)

    async def remember(self, request: AgentRequest, answer: str, ctx: AgentContext) -> None:
        """Keep the answer where that is asked for, and learn from what it cites."""
        if not request.use_memory:
            return
        if self.keeps_answers:
            await _keep_answer(answer, ctx)
        answered = ctx.recorder.of_role(ANSWERER)
        if isinstance(self.reranker, EmbeddingReranker) and answered and self._judged(answered[0]):
            await self.reranker.learn(answered[0], ctx)

    async def reflect(self, session: str, ctx: AgentContext) -> list[MemoryRecord]:
        """Turn what was said in a session that has ended into topic memories. See `Reflection.reflect`."""
        return await self.reflection.reflect(session, ctx)

    async def _recalled(self, question: str, conversation: Sequence[Message], request: AgentRequest, ctx: AgentContext) -> list[Recalled]:
        said = {words(message.content) for message in conversation}
        found = [m for m in await self.retriever.search(question, ctx) if words(m.record.text) not in said]
        best = sorted(without_covered(found), key=lambda m: m.score, reverse=True)[: self.candidates]
        kept = {m.record.id for m in best}
        candidates = [m for m in found if m.record.id in kept]
        chosen = await self.reranker.rerank(question, candidates, ctx, sampling=request.sampling)
        return await with_turns(chosen, ctx, self.memory_chars)

    def _judged(self, step: Step) -> bool:
        """Whether the answer tells what was of use: one that was cut off does not, nor one that leaves out what the prompt asks for."""
        if step.finish_reason != "stop":
            return False
        return bool(step.cited) or NO_CITATION not in self.answerer.prompt.user or NO_CITATION in step.text


@flow("rmm")
def build(config: AgentConfig, wiring: Wiring) -> RmmAgent:
    """Its reranker is the one of `agents.rmm.reranker` where the file names none; its answerer has a fence, such as `cited`."""
    needed(config, wiring, ("answerer",), ("reranker",))
    settings, own, answerer = wiring.settings, wiring.settings.rmm, wiring.modules["answerer"]
    if not isinstance(answerer, Answerer):
        raise ConfigurationError("the flow 'rmm' needs the answerer 'cited'", param=f"{config.id}.modules.answerer.use")
    reranker = wiring.modules.get("reranker")
    if reranker is None:
        kind = PolicyReranker if own.reranker == "policy" else EmbeddingReranker
        reranker = kind.build(RerankerOptions(limit=own.shown), wiring)
    alias = wiring.alias(ModuleOptions())
    topics, merge = wiring.prompt("rmm_topics"), wiring.prompt("rmm_merge")
    retriever = Retriever(SPARE * own.candidates, CANDIDATE_CHARS)
    resolved = wiring.resolved | {"rmm": own.model_dump(mode="json"), "memory_chars": settings.memory_chars}
    identity = config_hash(config.id, resolved, wiring.prompts)
    aliases = frozenset(wiring.aliases)
    return RmmAgent(
        id=config.id,
        config_hash=identity,
        aliases=aliases,
        answerer=answerer,
        retriever=retriever,
        reranker=reranker,
        reflection=Reflection(
            TopicExtractor(alias, topics, answerer.fence),
            TopicMerger(alias, merge, answerer.fence),
            own.similar,
            ("user", "assistant") if own.assistant else ("user",),
        ),
        turns=MemoryAgent(config.id, identity, aliases, answerer.fence, "episodic", retriever, answerer),
        candidates=own.candidates,
        memory_chars=settings.memory_chars,
        keeps_answers=own.assistant,
        reflects_at_end=own.reflect_at_end,
    )


async def _keep_answer(answer: str, ctx: AgentContext) -> None:
    """Store what was answered as a raw turn of the session, as an assistant's word; called again, what it began is finished."""
    text = answer.rpartition("</think>")[2].strip()[:MAX_TEXT].encode(errors="replace").decode()
    if not text:
        return
    begun = next((step for step in ctx.recorder.of_role(ANSWER_WRITER)), None)
    if begun is not None and begun.memory_ops:
        return
    step = ctx.recorder.begin_operation(ANSWER_WRITER) if begun is None else begun.index
    write = MemoryWrite(
        op="add",
        id=memory_id(ctx, step, 0),
        text=text,
        kind="episodic",
        valid_at=ctx.at,
        provenance=provenance(ctx, step),
        trust="assistant",
    )
    await ctx.store.apply(ctx.namespace, [write])
    ctx.recorder.amend(step, memory_ops=[MemoryOp(op="add", id=write.id, text=text)])
