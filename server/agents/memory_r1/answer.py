"""The answer agent (Memory-R1, arXiv 2508.19828, section 3.1): it notes the memories that it deems useful, then answers shortly."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

from recollect.messages import Message
from recollect.settings import AgentSettings
from server.agents.answerer import ROLE, Answerer, citations
from server.agents.base import AgentContext, AgentRequest, StreamEvent
from server.agents.fence import Fence
from server.agents.memory_r1.banks import SPEAKER, is_second, name_of
from server.agents.memory_r1.distilled import short_answers, split
from server.agents.retriever import Recalled
from server.agents.wiring import ModuleOptions, Wiring, module


@dataclass(frozen=True, slots=True)
class SpeakersAnswerer(Answerer):
    """Shows the memories of each speaker under that speaker's name, each with its date where one is known."""

    def block(self, memories: Sequence[Recalled]) -> str:
        """The banks one after the other, numbered through. Headings are left out where the user alone is remembered."""
        banks = [[m for m in memories if is_second(m.record) == second] for second in (False, True)]
        headed = bool(banks[1]) or any(SPEAKER in m.record.metadata for m in memories)
        number, blocks = 1, list[str]()
        for bank in filter(None, banks):
            names = ", ".join(dict.fromkeys(self.fence.defuse(name_of(m.record)) for m in bank))
            lines = [f"[{i}] {_date(m)}{self.shown(m)}" for i, m in enumerate(bank, start=number)]
            blocks.append("\n".join([f"Memories of {names}:", *lines] if headed else lines))
            number += len(bank)
        return "\n\n".join(blocks)


class DistillOptions(ModuleOptions):
    """Whether the memories that were chosen go out before the answer."""

    show_distilled: bool

    @classmethod
    def defaults(cls, settings: AgentSettings) -> dict[str, object]:
        return {"policy": settings.answer_policy, "show_distilled": settings.show_distilled}


@module("answerer", "distilling")
@dataclass(frozen=True, slots=True)
class DistillingAnswerer:
    """One call: the notes stay in the recorded step, the answer goes out. Cited is what the notes name by its number."""

    Options: ClassVar = DistillOptions

    answerer: SpeakersAnswerer
    show_distilled: bool

    @classmethod
    def build(cls, options: DistillOptions, wiring: Wiring) -> DistillingAnswerer:
        """Raises ConfigurationError for a pack that lacks the prompt, or its fence."""
        prompt = wiring.prompt("distill")
        return cls(SpeakersAnswerer(wiring.alias(options), prompt, Fence.of(prompt)), options.show_distilled)

    async def answer(
        self, conversation: Sequence[Message], memories: Sequence[Recalled], request: AgentRequest, ctx: AgentContext
    ) -> AsyncGenerator[StreamEvent, None]:
        """Stream the short answer; without memories there is nothing to note, and the answer goes out as it comes.

        Raises ContextTooLong if the conversation alone does not fit, and what the engine raises.
        """
        marker = self.answerer.prompt.marker
        events = self.answerer.answer(conversation, memories, request, ctx)
        distils = bool(memories and marker)
        shown = short_answers(events, marker) if distils and not self.show_distilled else events
        async with aclosing(events), aclosing(shown):
            async for event in shown:
                yield event
        if distils:
            _cite(ctx, marker)


def _cite(ctx: AgentContext, marker: str) -> None:
    """Citations are read from the notes; from all of the text where the marker is missing."""
    for step in ctx.recorder.of_role(ROLE):
        parts = split(step.text, marker)
        numbers = citations(parts.answer if parts.chosen is None else parts.chosen, len(step.retrieved))
        ctx.recorder.amend(step.index, cited=[step.retrieved[i - 1].id for i in numbers])


def _date(memory: Recalled) -> str:
    """When it holds from; a memory that was stored without a date is shown without one, since the clock says nothing about it."""
    at = memory.record.valid_at
    return "" if at is None else f"({at.day} {at:%B %Y}) "
