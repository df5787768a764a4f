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
from server.agents.document import Reading
from server.agents.prompts import Prompt
from server.agents.recurrent import ANSWER, READ
from server.agents.sampling import inner
from server.engines.base import Chunk, Sampling, collect


@dataclass(frozen=True, slots=True)
class TextReader:
    """Reads by the policy `alias`, from text to text."""

    alias: str
    section_prompt: Prompt
    answer_prompt: Prompt
    budget: Budget

    async def read(self, reading: Reading, request: AgentRequest, ctx: AgentContext) -> str | None:
        """The memory after the last section; None if nothing was written. Raises as the ids' reader does."""
        if not reading.document:
            return None
        num_question = len(reading.question) // CHARS_PER_TOKEN
        num_fixed = len(self.section_prompt.user) // CHARS_PER_TOKEN + num_question
        sizes = self.budget.fit(num_fixed, num_question, ctx.engine.window)
        length = sizes.section * CHARS_PER_TOKEN
        memory: str | None = None
        for start in range(0, len(reading.document), length):
            messages = self.section_prompt.render(
                question=reading.question,
                memory=memory or self.section_prompt.empty_memory,
                section=reading.document[start : start + length],
            )
            completion = (await collect(self._chat(messages, READ, inner(request.sampling, sizes.memory), ctx)))[0]
            written = carried_text(completion.text)
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
