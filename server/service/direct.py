"""The base model itself as an agent: it answers as it is, without memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing

from recollect.policy import Policy
from recollect.trajectory import Usage
from server.agents.base import AgentContext, AgentRequest, StreamEvent
from server.agents.streams import events_of


class Direct:
    """Passes a conversation to the base model and writes nothing."""

    aliases: frozenset[str] = frozenset()
    conversational = True

    def __init__(self, base: str) -> None:
        self.id = base
        self.config_hash = hashlib.sha256(f"direct {base}".encode()).hexdigest()

    async def run(self, request: AgentRequest, ctx: AgentContext) -> AsyncIterator[StreamEvent]:
        """The base model's answer."""
        policy = Policy(base=ctx.engine.base)
        sampling, tools = request.sampling, request.tools
        chunks = ctx.engine.chat(request.messages, policy=policy, sampling=sampling, stream=request.stream, salt=ctx.salt, tools=tools)
        recorded = ctx.recorder.call(chunks, role="answerer", policy=policy, sampling=sampling, messages=request.messages, tools=tools)
        async with aclosing(events_of(recorded, Usage())) as events:
            async for event in events:
                yield event

    async def acknowledge(self, request: AgentRequest, ctx: AgentContext) -> None:
        """Promises nothing."""

    async def remember(self, request: AgentRequest, answer: str, ctx: AgentContext) -> None:
        """Writes nothing."""
