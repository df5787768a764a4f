"""The `memory-r1` agent: two policies, a manager that writes memory after each turn and an answer agent that chooses from it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from recollect.messages import Message, last_user_text
from recollect.settings import AgentSettings
from server.agents.base import AgentContext, AgentRequest, StreamEvent
from server.agents.config_hash import config_hash
from server.agents.fence import Fence
from server.agents.memory import joined_user_turns
from server.agents.memory_r1.answer import DistillingAnswerer, SpeakersAnswerer
from server.agents.memory_r1.banks import TwoBanks, said_by_assistant, said_by_user
from server.agents.memory_r1.facts import FactExtractor
from server.agents.memory_r1.manager import Manager
from server.agents.prompts import load_prompt
from server.agents.verbatim import words

SETTINGS = {"manager_policy", "answer_policy", "candidates", "related", "memory_chars", "speakers", "show_distilled"}


@dataclass(frozen=True, slots=True)
class MemoryR1Agent:
    """Answers from 30 + 30 candidates of two speakers; after the answer the manager changes the memory, fact by fact.

    `speakers` both: the reply is remembered too, as the second speaker's turn.
    """

    manager: Manager
    retriever: TwoBanks
    answerer: DistillingAnswerer
    speakers: Literal["user", "both"]
    config_hash: str
    id: str = "memory-r1"

    @classmethod
    def build(cls, settings: AgentSettings, pack: str) -> MemoryR1Agent:
        """Wire the agent. Raises ConfigurationError for a pack that lacks a prompt or a fence."""
        extract, manage, distill = load_prompt(pack, "extract"), load_prompt(pack, "manage"), load_prompt(pack, "distill")
        fence = Fence.of(distill)
        resolved = settings.model_dump(include=SETTINGS) | {"prompts": pack}
        extractor = FactExtractor(settings.manager_policy, extract)
        facts = TwoBanks.of_facts(settings.related, settings.memory_chars)
        return cls(
            manager=Manager(settings.manager_policy, manage, fence, extractor, facts),
            retriever=TwoBanks.of(settings.candidates, settings.memory_chars),
            answerer=DistillingAnswerer(SpeakersAnswerer(settings.answer_policy, distill, fence), settings.show_distilled),
            speakers=settings.speakers,
            config_hash=config_hash("memory-r1", resolved, {"extract": extract, "manage": manage, "distill": distill}),
        )

    @property
    def aliases(self) -> frozenset[str]:
        return frozenset({self.manager.alias, self.answerer.answerer.alias})

    async def run(self, request: AgentRequest, ctx: AgentContext) -> AsyncGenerator[StreamEvent, None]:
        """Answer with the memories of both speakers that bear on the last user turn."""
        conversation = self._conversation(request)
        question = last_user_text(conversation)
        recalled = await self.retriever.search(question, ctx) if request.use_memory and question.strip() else []
        memories = [m for m in recalled if words(m.record.text) != words(question)]
        async with aclosing(self.answerer.answer(conversation, memories, request, ctx)) as events:
            async for event in events:
                yield event

    async def acknowledge(self, request: AgentRequest, ctx: AgentContext) -> None:
        """Nothing: what is remembered takes model calls."""

    async def remember(self, request: AgentRequest, answer: str, ctx: AgentContext) -> None:
        """Let the manager change the memory by what was said."""
        if not request.use_memory:
            return
        said = _storable(last_user_text(self._conversation(request)))
        turns = [await said_by_user(said, ctx)] if said else []
        reply = _storable(self.answerer.answerer.fence.strip(answer))
        if self.speakers == "both" and reply:
            turns.append(said_by_assistant(reply))
        if turns:
            await self.manager.update_all(turns, request, ctx)

    def _conversation(self, request: AgentRequest) -> list[Message]:
        return joined_user_turns(self.answerer.answerer.fence.clean(request.messages))


def _storable(text: str) -> str:
    return text.strip().encode(errors="replace").decode()  # half of a surrogate pair cannot be stored
