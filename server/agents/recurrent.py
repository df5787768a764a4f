"""Recurrent reading (MemAgent, arXiv 2507.02259): a document of any length, section by section, into a memory that is overwritten.

Each section is one fresh conversation: (question, memory, section) to the new memory. The prompts are joined from token ids,
so that what was sampled as a memory is read as exactly those tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from server.agents import id_template
from server.agents.base import AgentContext, AgentRequest
from server.agents.budget import Budget
from server.agents.carried import OPEN, carried_ids, text_of
from server.agents.document import Reading
from server.agents.id_template import IdTemplate, Slot
from server.agents.prompts import Prompt
from server.agents.sampling import inner
from server.engines.base import Chunk, Engine, Sampling, collect

READ, ANSWER = "reader", "reader_answer"
MAX_CACHED = 256


@dataclass(frozen=True, slots=True)
class QuestionTemplates:
    """The two prompts of one question as ids, and the memory that each begins with."""

    section: IdTemplate
    section_empty: list[int]
    answer: IdTemplate
    answer_empty: list[int]
    num_question: int


@dataclass(frozen=True, slots=True)
class RecurrentReader:
    """Reads by the policy `alias`, from ids to ids. Needs an engine that is `exact`."""

    alias: str
    section_prompt: Prompt
    answer_prompt: Prompt
    budget: Budget
    _token_texts: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])
    _cache: dict[tuple[str, str], asyncio.Task[QuestionTemplates]] = field(
        default_factory=dict[tuple[str, str], asyncio.Task[QuestionTemplates]]
    )

    async def read(self, reading: Reading, request: AgentRequest, ctx: AgentContext) -> list[int] | None:
        """The memory after the last section, as it was sampled; None if nothing was written.

        Raises ContextTooLong, ConfigurationError (agents.section_tokens), and what the engine raises.
        """
        if not reading.document:
            return None
        of = await self._templates(reading.question, ctx.engine)
        sizes = self.budget.fit(of.section.num_fixed, of.num_question, ctx.engine.window)
        slot = of.section.slot("section")
        document = await ctx.engine.encode(slot.lead + reading.document)
        sampling = inner(request.sampling, sizes.memory)
        opened = of.section.tail.rstrip().endswith(OPEN)
        texts = self._token_texts.setdefault(ctx.engine.base, {})
        memory: list[int] | None = None
        for start in range(0, len(document), sizes.section):
            section = await _led(document[start : start + sizes.section], slot, ctx.engine, texts)
            prompt = of.section.join({"memory": _value(of.section, memory, of.section_empty), "section": section})
            completion = (await collect(self._complete(prompt, READ, sampling, ctx)))[0]
            written = await carried_ids(completion, ctx.engine, texts, opened=opened)
            memory = memory if written is None else written
        return memory

    async def answer(
        self, reading: Reading, memory: list[int] | None, request: AgentRequest, ctx: AgentContext
    ) -> AsyncGenerator[Chunk, None]:
        """The chunks of the answer from the memory alone."""
        of = await self._templates(reading.question, ctx.engine)
        prompt = of.answer.join({"memory": _value(of.answer, memory, of.answer_empty)})
        return self._complete(prompt, ANSWER, request.sampling, ctx, stream=request.stream)

    def _complete(
        self, prompt: Sequence[int], role: str, sampling: Sampling, ctx: AgentContext, *, stream: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        policy = ctx.policies[self.alias]
        chunks = ctx.engine.complete(prompt, policy=policy, sampling=sampling, stream=stream, salt=ctx.salt)
        return ctx.recorder.call(chunks, role=role, policy=policy, alias=self.alias, sampling=sampling, prompt_ids=prompt)

    async def _templates(self, question: str, engine: Engine) -> QuestionTemplates:
        """The templates of a question, built once for all who ask it while it is among the latest that were asked."""
        key = (engine.base, question)
        task = self._cache.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._cache[key] = asyncio.create_task(self._build(question, engine))
            if len(self._cache) > MAX_CACHED:
                del self._cache[next(iter(self._cache))]
        return await asyncio.shield(task)

    async def _build(self, question: str, engine: Engine) -> QuestionTemplates:
        fields = {"question": question}
        section = await id_template.build(engine, self.section_prompt, fields, ["memory", "section"])
        answer = await id_template.build(engine, self.answer_prompt, fields, ["memory"])
        return QuestionTemplates(
            section=section,
            section_empty=await engine.encode(section.slot("memory").lead + self.section_prompt.empty_memory),
            answer=answer,
            answer_empty=await engine.encode(answer.slot("memory").lead + self.answer_prompt.empty_memory),
            num_question=len(await engine.encode(question)),
        )


def _value(template: IdTemplate, memory: list[int] | None, empty: list[int]) -> list[int]:
    """What stands in the memory's slot: what was sampled, untouched; where nothing was, the prompt's word for it."""
    return [*template.slot("memory").lead_ids, *memory] if memory else empty


async def _led(section: list[int], slot: Slot, engine: Engine, texts: dict[int, str]) -> list[int]:
    """A section with the slot's lead before it, unless it begins with one of its own: a cut in the text may fall inside a word."""
    if not slot.lead or (await text_of(section[0], engine, texts)).startswith(slot.lead):
        return section
    return [*slot.lead_ids, *section]
