"""The `memory` agent: retrieve, answer with streaming, write."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from recollect.errors import ConfigurationError
from recollect.messages import Message
from server.agents.agent_config import AgentConfig
from server.agents.base import AgentContext, AgentRequest, StreamEvent
from server.agents.config_hash import config_hash
from server.agents.episodes import keep_turn
from server.agents.fence import Fence
from server.agents.modules import Answerer, Extractor, Fact, Reranker, Retriever, Updater
from server.agents.prompts import load_prompt
from server.agents.turns import is_continued, joined_user_turns, last_words
from server.agents.verbatim import words
from server.agents.wiring import Wiring, flow, needed


@dataclass(frozen=True, slots=True)
class MemoryAgent:
    """Answers with what it remembers of earlier conversations, and remembers what the user says in this one.

    `episodic` keeps each user turn as it was said, before the answer ends; `operations` lets the updater change facts after the
    answer has gone out. What was recalled or answered is never stored.
    """

    id: str
    config_hash: str
    aliases: frozenset[str]
    fence: Fence
    writing: Literal["none", "episodic", "operations"]
    retriever: Retriever
    answerer: Answerer
    reranker: Reranker | None = None
    extractor: Extractor | None = None
    updater: Updater | None = None
    conversational: bool = True

    async def run(self, request: AgentRequest, ctx: AgentContext) -> AsyncGenerator[StreamEvent, None]:
        """Answer with the memories that bear on the last user turn."""
        conversation = self._conversation(request)
        question = last_words(conversation)
        recalled = await self.retriever.search(question, ctx) if request.use_memory and question.strip() else []
        memories = [m for m in recalled if words(m.record.text) != words(question)]
        if self.reranker is not None and memories:
            memories = await self.reranker.rerank(question, memories, ctx, sampling=request.sampling)
        async with aclosing(self.answerer.answer(conversation, memories, request, ctx)) as events:
            async for event in events:
                yield event

    async def acknowledge(self, request: AgentRequest, ctx: AgentContext) -> None:
        """Under `episodic`, commit the user's turn as it was said, unless the same words are remembered already."""
        if self.writing == "episodic":
            await keep_turn(self._turn(request), ctx)

    async def remember(self, request: AgentRequest, answer: str, ctx: AgentContext) -> None:
        """Under `operations`, let the updater change the memory by what the user said; the answer is no source.

        Where no more calls may be made the turn is kept as it was said.
        """
        turn = self._turn(request)
        if self.writing != "operations" or self.updater is None or not turn:
            return
        if not ctx.may_call:
            await keep_turn(turn, ctx)
            return
        facts = [Fact(text=turn)] if self.extractor is None else await self.extractor.extract(turn, request, ctx)
        if facts:
            await self.updater.update(turn, facts, request, ctx)

    def _turn(self, request: AgentRequest) -> str:
        """What is to be remembered of a request: the user's last turn, without memories that a client sent back. Nothing if the request
        brings no new turn, but results of tools."""
        conversation = self._conversation(request)
        text = last_words(conversation).strip() if request.use_memory and not is_continued(conversation) else ""
        return text.encode(errors="replace").decode()  # half of a surrogate pair cannot be stored

    def _conversation(self, request: AgentRequest) -> list[Message]:
        return joined_user_turns(self.fence.clean(request.messages))


@flow("dialogue")
def build(config: AgentConfig, wiring: Wiring) -> MemoryAgent:
    """A dialogue agent: a retriever and an answerer, and where wanted a reranker, an extractor and an updater."""
    needed(config, wiring, ("retriever", "answerer"), ("reranker", "extractor", "updater"))
    writing = config.writing or wiring.settings.writing
    if writing == "operations" and "updater" not in wiring.modules:
        raise ConfigurationError("writing: operations needs a module 'updater'", param=f"{config.id}.writing")
    return MemoryAgent(
        id=config.id,
        config_hash=config_hash(config.id, wiring.resolved | {"writing": writing}, wiring.prompts),
        aliases=frozenset(wiring.aliases),
        fence=Fence.of(load_prompt(wiring.pack, "answer")),
        writing=writing,
        **wiring.modules,
    )
