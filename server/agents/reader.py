"""The `reader` agent: answers a question about a document of any length by recurrent reading."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from recollect.settings import AgentSettings
from recollect.settings import Reading as Style
from server.agents import document
from server.agents.base import AgentContext, AgentRequest, StreamEvent
from server.agents.budget import Budget
from server.agents.config_hash import config_hash
from server.agents.prompts import PromptName, load_prompt
from server.agents.recurrent import RecurrentReader
from server.agents.recurrent_text import TextReader
from server.agents.streams import events_of

SECTION_PROMPTS: dict[Style, PromptName] = {
    "plain": "read_section",
    "section_first": "read_section_first",
    "recall": "read_recall",
    "question_free": "read_question_free",
}
"""How it reads lies in the prompt alone: in which fields it has, and in their order."""


@dataclass(frozen=True, slots=True)
class ReaderAgent:
    """Reads section by section, then answers in \\boxed{} from its memory. It keeps nothing between requests."""

    by_ids: RecurrentReader
    by_text: TextReader
    config_hash: str
    id: str = "reader"
    reads_files: bool = True

    @classmethod
    def build(cls, settings: AgentSettings, pack: str) -> ReaderAgent:
        """Wire the agent. Raises ConfigurationError for a pack that lacks a prompt."""
        section, answer = load_prompt(pack, SECTION_PROMPTS[settings.reading]), load_prompt(pack, "read_answer")
        budget = Budget.of(settings.section_tokens, settings.memory_tokens, pack)
        resolved = {
            "policy": settings.policy,
            "prompts": pack,
            "section_tokens": budget.section,
            "memory_tokens": budget.memory,
            "max_sections": settings.max_sections,
            "reading": settings.reading,
        }
        return cls(
            by_ids=RecurrentReader(settings.policy, section, answer, budget, settings.max_sections),
            by_text=TextReader(settings.policy, section, answer, budget, settings.max_sections),
            config_hash=config_hash("reader", resolved, {"read_section": section, "read_answer": answer}),
        )

    @property
    def aliases(self) -> frozenset[str]:
        return frozenset({self.by_ids.alias})

    async def run(self, request: AgentRequest, ctx: AgentContext) -> AsyncGenerator[StreamEvent, None]:
        """Read, then stream the answer as it is generated. Its last usage counts the sections too."""
        reading = document.split(request.messages)
        if ctx.engine.exact:
            memory = await self.by_ids.read(reading, request, ctx)
            used = ctx.recorder.usage
            chunks = await self.by_ids.answer(reading, memory, request, ctx)
        else:
            text = await self.by_text.read(reading, request, ctx)
            used = ctx.recorder.usage
            chunks = await self.by_text.answer(reading, text, request, ctx)
        async with aclosing(events_of(chunks, used)) as events:
            async for event in events:
                yield event

    async def acknowledge(self, request: AgentRequest, ctx: AgentContext) -> None:
        """Nothing: a document that was read is no memory of the user."""

    async def remember(self, request: AgentRequest, answer: str, ctx: AgentContext) -> None:
        """Nothing, as above."""
