"""Recurrent reading (MemAgent, arXiv 2507.02259): a document of any length, section by section, into a memory that is overwritten.

Each section is one fresh conversation: (question, memory, section) to the new memory. The prompts are joined from token ids,
so that what was sampled as a memory is read as exactly those tokens. The document streams: one section is held at a time.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from server.agents.base import AgentContext, AgentRequest
from server.agents.budget import Budget
from server.agents.carried import OPEN, carried_ids, text_of
from server.agents.document import Reading
from server.agents.document import text_of as document_text
from server.agents.id_template import Slot
from server.agents.piecewise import encoded
from server.agents.prompts import Prompt
from server.agents.question_templates import QuestionTemplates, TemplateCache
from server.agents.sampling import inner
from server.agents.sections import centred, sections
from server.agents.snapshots import Snapshots, ids_before, said
from server.engines.base import Chunk, Engine, Sampling, collect

READ, ANSWER = "reader", "reader_answer"
RECALLED = "recalled"
"""The field of a prompt that shows an earlier memory which the policy asked for; a prompt without it recalls nothing."""


@dataclass(frozen=True, slots=True)
class RecurrentReader:
    """Reads by the policy `alias`, from ids to ids. Needs an engine that is `exact`. `max_sections` 0: any number."""

    alias: str
    section_prompt: Prompt
    answer_prompt: Prompt
    budget: Budget
    max_sections: int = 0
    _token_texts: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])
    _templates: TemplateCache = field(default_factory=TemplateCache)

    async def read(self, reading: Reading, request: AgentRequest, ctx: AgentContext) -> list[int] | None:
        """The memory after the last section, as it was sampled; None if nothing was written.

        Raises ContextTooLong, ConfigurationError (agents.section_tokens), NotFound (a file), and what the engine raises.
        """
        if not reading.document:
            return None
        of = await self._of(reading, ctx.engine)
        recalls = RECALLED in self.section_prompt.fields
        sizes = self.budget.fit(of.section.num_fixed, of.num_question, ctx.engine.window, 2 if recalls else 1)
        slot = of.section.slot("section")
        ids = encoded(document_text(reading.document, ctx), ctx.engine, slot.lead)
        if self.max_sections:
            ids = centred(ids, self.max_sections * sizes.section)
        sampling = inner(request.sampling, sizes.memory)
        opened = of.section.tail.rstrip().endswith(OPEN)
        texts = self._token_texts.setdefault(ctx.engine.base, {})
        snapshots: Snapshots[array[int]] = Snapshots()
        memory: list[int] | None = None
        recalled: Sequence[int] | None = None
        async for part in sections(ids, sizes.section):
            values = {"memory": of.value("memory", memory), "section": await _led(part, slot, ctx.engine, texts)}
            if recalls:
                values[RECALLED] = of.value(RECALLED, recalled)
            prompt = of.section.join(values)
            completion = (await collect(self._complete(prompt, READ, sampling, ctx)))[0]
            written = await carried_ids(completion, ctx.engine, texts, opened=opened)
            recalled = None
            if recalls and written:
                written, recalled = await _recalled(written, snapshots, ctx.engine)
            memory = memory if written is None else written
        return memory

    async def answer(
        self, reading: Reading, memory: list[int] | None, request: AgentRequest, ctx: AgentContext
    ) -> AsyncGenerator[Chunk, None]:
        """The chunks of the answer from the memory alone."""
        of = await self._of(reading, ctx.engine)
        prompt = of.answer.join({"memory": of.answered_from(memory)})
        return self._complete(prompt, ANSWER, request.sampling, ctx, stream=request.stream)

    def _complete(
        self, prompt: Sequence[int], role: str, sampling: Sampling, ctx: AgentContext, *, stream: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        policy = ctx.policies[self.alias]
        chunks = ctx.engine.complete(prompt, policy=policy, sampling=sampling, stream=stream, salt=ctx.salt)
        return ctx.recorder.call(chunks, role=role, policy=policy, alias=self.alias, sampling=sampling, prompt_ids=prompt)

    async def _of(self, reading: Reading, engine: Engine) -> QuestionTemplates:
        return await self._templates.get(reading.question, engine, self.section_prompt, self.answer_prompt)


async def _recalled(written: list[int], snapshots: Snapshots[array[int]], engine: Engine) -> tuple[list[int], Sequence[int] | None]:
    """The memory without what it asks for, and the earlier memory that it asked for. The memory is kept for later steps."""
    text = await engine.decode(written)
    memory, query = said(text)
    if memory != text:
        written = await ids_before(written, len(memory), engine)
    found = snapshots.best(query) if query else None
    snapshots.add(array("I", written), memory)
    return written, found


async def _led(section: list[int], slot: Slot, engine: Engine, texts: dict[int, str]) -> list[int]:
    """A section with the slot's lead before it, unless it begins with one of its own: a cut in the text may fall inside a word."""
    if not slot.lead or (await text_of(section[0], engine, texts)).startswith(slot.lead):
        return section
    return [*slot.lead_ids, *section]
