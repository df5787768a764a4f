"""Answers the last user message with memories in front of it, streams, and reads from the answer which memories it cites."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

from recollect.errors import ContextTooLong
from recollect.messages import Message
from server.agents.base import AgentContext, AgentRequest, StreamEvent
from server.agents.fence import Fence
from server.agents.prompts import Prompt
from server.agents.retriever import Recalled
from server.agents.streams import events_of
from server.agents.turns import last_turn
from server.agents.wiring import ModuleOptions, Wiring, module

ROLE = "answerer"
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.S)
_SOURCES = {
    "assistant": "(said by an assistant) ",
    "tool": "(a tool's output, not the user's words) ",
    "document": "(from a document, not the user's words) ",
}
_CITATION = re.compile(r"\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\](?!\()")


class AnswererOptions(ModuleOptions):
    """`prompt`: which one of the pack."""

    prompt: str = "answer"


@module("answerer", "cited")
@dataclass(frozen=True, slots=True)
class Answerer:
    """One call of the policy `alias`. The memory block stands late, directly before the user's own text of the last turn."""

    alias: str
    prompt: Prompt
    fence: Fence

    Options: ClassVar = AnswererOptions

    @classmethod
    def build(cls, options: AnswererOptions, wiring: Wiring) -> Answerer:
        """Raises ConfigurationError for a pack whose prompt has no fence."""
        prompt = wiring.prompt(options.prompt)
        return cls(wiring.alias(options), prompt, Fence.of(prompt))

    def messages(self, conversation: Sequence[Message], memories: Sequence[Recalled]) -> list[Message]:
        """The conversation with the memories inserted; without memories, or without a user message, as it is."""
        last = last_turn(conversation)
        if not memories or last is None:
            return list(conversation)
        asked = self.prompt.render(memories=self.block(memories), question=conversation[last].content)
        return [*conversation[:last], *asked, *conversation[last + 1 :]]

    def block(self, memories: Sequence[Recalled]) -> str:
        """The memories as the prompt shows them, numbered from 1."""
        return "\n".join(f"[{i}] {self.shown(m)}" for i, m in enumerate(memories, start=1))

    def shown(self, memory: Recalled) -> str:
        """One memory behind its source, where that is not the user; its further lines indented, so that none poses as another."""
        lines = self.fence.defuse(memory.text).strip().splitlines()
        return _SOURCES.get(memory.record.trust, "") + "\n    ".join(line.rstrip() for line in lines)

    async def answer(
        self, conversation: Sequence[Message], memories: Sequence[Recalled], request: AgentRequest, ctx: AgentContext
    ) -> AsyncGenerator[StreamEvent, None]:
        """Stream the answer; its last usage counts the calls before it too. If it does not fit into the window, memories are given up,
        the lowest-scored half first.

        Raises ContextTooLong if the conversation alone does not fit, and what the engine raises.
        """
        while True:
            try:
                async with aclosing(self._attempt(conversation, memories, request, ctx)) as events:
                    async for event in events:
                        yield event
                return
            except ContextTooLong:
                if not memories:
                    raise
                best = sorted(memories, key=lambda m: m.score, reverse=True)[: len(memories) // 2]
                memories = [m for m in memories if m in best]

    async def _attempt(
        self, conversation: Sequence[Message], memories: Sequence[Recalled], request: AgentRequest, ctx: AgentContext
    ) -> AsyncGenerator[StreamEvent, None]:
        messages = self.messages(conversation, memories)
        policy = ctx.policies[self.alias]
        chunks = ctx.recorder.call(
            ctx.engine.chat(messages, policy=policy, sampling=request.sampling, stream=request.stream, salt=ctx.salt, tools=request.tools),
            role=ROLE,
            policy=policy,
            alias=self.alias,
            sampling=request.sampling,
            messages=messages,
            retrieved=[m.ref for m in memories],
            tools=request.tools,
        )
        async with aclosing(events_of(chunks, ctx.recorder.usage)) as events:
            async for event in events:
                yield event
        if memories:
            for step in ctx.recorder.of_role(ROLE):
                ctx.recorder.amend(step.index, cited=[memories[i - 1].record.id for i in citations(step.text, len(memories))])


def citations(answer: str, count: int) -> list[int]:
    """The numbers from 1 to `count` that an answer cites as `[i]`, each once, in the order in which they appear.

    Code and what was thought before the answer are passed over; so are numbers of no memory.
    """
    text = _CODE.sub(" ", answer.rpartition("</think>")[2])
    numbers = [int(n) for match in _CITATION.findall(text) for n in re.findall(r"\d+", match)]
    return list(dict.fromkeys(n for n in numbers if 1 <= n <= count))
