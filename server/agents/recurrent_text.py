"""Recurrent reading over an engine that gives no token ids: the same loop over text, with sections counted in characters.

Its steps are recorded without ids, so nothing is trained on them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from recollect.messages import Message
from server.agents.base import AgentContext, AgentRequest
from server.agents.budget import CHARS_PER_TOKEN, Budget
from server.agents.carried import carried_text
from server.agents.document import Reading, text_of
from server.agents.prompts import Prompt
from server.agents.recurrent import ANSWER, READ, RECALLED
from server.agents.sampling import inner
from server.agents.sections import centred, sections
from server.agents.snapshots import Snapshots, said
from server.engines.base import Chunk, Sampling, collect


@dataclass(frozen=True, slots=True)
class TextReader:
    """Reads by the policy `alias`, from text to text. `max_sections` 0: any number."""

    alias: str
    section_prompt: Prompt
    answer_prompt: Prompt
    budget: Budget
    max_sections: int = 0

    async def read(self, reading: Reading, request: AgentRequest, ctx: AgentContext) -> str | None:
        """The memory after the last section; None if nothing was written. Raises as the ids' reader does."""
        if not reading.document:
            return None
        num_question = len(reading.question) // CHARS_PER_TOKEN
        num_fixed = len(self.section_prompt.user) // CHARS_PER_TOKEN + num_question
        recalls = RECALLED in self.section_prompt.fields
        sizes = self.budget.fit(num_fixed, num_question, ctx.engine.window, 2 if recalls else 1)
        length = sizes.section * CHARS_PER_TOKEN
        text = text_of(reading.document, ctx)
        if self.max_sections:
            text = centred(text, self.max_sections * length)
        empty = self.section_prompt.empty_memory
        snapshots: Snapshots[str] = Snapshots()
        memory: str | None = None
        recalled: str | None = None
        async for section in sections(text, length):
            messages = self.section_prompt.render(
                question=reading.question, memory=memory or empty, section=section, recalled=recalled or empty
            )
            completion = (await collect(self._chat(messages, READ, inner(request.sampling, sizes.memory), ctx)))[0]
            written = carried_text(completion.text)
            recalled = None
            if recalls and written:
                written, query = said(written)
                recalled = snapshots.best(query) if query else None
                snapshots.add(written, written)
            memory = memory if written is None else written
        return memory

    async def answer(self, reading: Reading, memory: str | None, request: AgentRequest, ctx: AgentContext) -> AsyncGenerator[Chunk, None]:
        """The chunks of the answer from the memory alone."""
        messages = self.answer_prompt.render(question=reading.question, memory=memory or self.answer_prompt.empty_memory)
        return self._chat(messages, ANSWER, request.sampling, ctx, stream=request.stream)

    def _chat(
        self, messages: Sequence[Message], role: str, sampling: Sampling, ctx: AgentContext, *, stream: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        policy = ctx.policies[self.alias]
        chunks = ctx.engine.chat(messages, policy=policy, sampling=sampling, stream=stream, salt=ctx.salt)
        return ctx.recorder.call(chunks, role=role, policy=policy, alias=self.alias, sampling=sampling, messages=messages)
