"""The `reader` agent: answers a question about a document of any length by recurrent reading."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from recollect.settings import AgentSettings
from recollect.settings import Reading as Style
from server.agents import document
from server.agents.agent_config import AgentConfig
from server.agents.base import AgentContext, AgentRequest, StreamEvent
from server.agents.budget import Budget
from server.agents.config_hash import config_hash
from server.agents.modules import Reader
from server.agents.recurrent import RecurrentReader
from server.agents.recurrent_text import TextReader
from server.agents.streams import events_of
from server.agents.wiring import ModuleOptions, Wiring, flow, module, needed

SECTION_PROMPTS: dict[Style, str] = {
    "plain": "read_section",
    "section_first": "read_section_first",
    "recall": "read_recall",
    "question_free": "read_question_free",
}
"""How it reads lies in the prompt alone: in which fields it has, and in their order."""


class RecurrentOptions(ModuleOptions):
    """Tokens of a section and of the memory (0: the pack's, or what fits the window), sections at most (0: all), the way of reading."""

    section_tokens: int = Field(ge=0)
    memory_tokens: int = Field(ge=0)
    max_sections: int = Field(ge=0)
    reading: Style

    @classmethod
    def defaults(cls, settings: AgentSettings) -> dict[str, object]:
        return {name: getattr(settings, name) for name in ("section_tokens", "memory_tokens", "max_sections", "reading")}


@module("reader", "recurrent")
@dataclass(frozen=True, slots=True)
class Recurrent:
    """Reads section by section into a memory that is overwritten, then answers in \\boxed{} from the memory (MemAgent)."""

    Options: ClassVar = RecurrentOptions

    by_ids: RecurrentReader
    by_text: TextReader

    @classmethod
    def build(cls, options: RecurrentOptions, wiring: Wiring) -> Recurrent:
        """Raises ConfigurationError for a pack that lacks a prompt."""
        section, answer = wiring.prompt(SECTION_PROMPTS[options.reading]), wiring.prompt("read_answer")
        alias, budget = wiring.alias(options), Budget.of(options.section_tokens, options.memory_tokens, wiring.pack)
        return cls(
            RecurrentReader(alias, section, answer, budget, options.max_sections),
            TextReader(alias, section, answer, budget, options.max_sections),
        )

    async def read(self, request: AgentRequest, ctx: AgentContext) -> AsyncGenerator[StreamEvent, None]:
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


@dataclass(frozen=True, slots=True)
class ReaderAgent:
    """Answers from a document; keeps nothing between requests."""

    id: str
    config_hash: str
    aliases: frozenset[str]
    reader: Reader
    reads_files: bool = True

    async def run(self, request: AgentRequest, ctx: AgentContext) -> AsyncGenerator[StreamEvent, None]:
        """Read and answer."""
        async with aclosing(self.reader.read(request, ctx)) as events:
            async for event in events:
                yield event

    async def acknowledge(self, request: AgentRequest, ctx: AgentContext) -> None:
        """Nothing: a document that was read is no memory of the user."""

    async def remember(self, request: AgentRequest, answer: str, ctx: AgentContext) -> None:
        """Nothing, as above."""


@flow("reading")
def build(config: AgentConfig, wiring: Wiring) -> ReaderAgent:
    """An agent of a reader alone."""
    needed(config, wiring, ("reader",), ())
    return ReaderAgent(
        config.id, config_hash(config.id, wiring.resolved, wiring.prompts), frozenset(wiring.aliases), wiring.modules["reader"]
    )
