"""The base model itself as an agent: it answers as it is, without memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from recollect.policy import Policy
from server.agents.base import AgentContext, AgentRequest, StreamEvent


class Direct:
    """Passes a conversation to the base model and writes nothing."""

    aliases: frozenset[str] = frozenset()

    def __init__(self, base: str) -> None:
        self.id = base
        self.config_hash = hashlib.sha256(f"direct {base}".encode()).hexdigest()

    async def run(self, request: AgentRequest, ctx: AgentContext) -> AsyncIterator[StreamEvent]:
        """The base model's answer."""
        policy = Policy(base=ctx.engine.base)
        chunks = ctx.engine.chat(request.messages, policy=policy, sampling=request.sampling, stream=request.stream, salt=ctx.salt)
        async for chunk in ctx.recorder.call(chunks, role="answerer", policy=policy, sampling=request.sampling, messages=request.messages):
            yield StreamEvent(index=chunk.index, text=chunk.text, finish_reason=chunk.finish_reason, usage=chunk.usage)

    async def acknowledge(self, request: AgentRequest, ctx: AgentContext) -> None:
        """Promises nothing."""

    async def remember(self, request: AgentRequest, answer: str, ctx: AgentContext) -> None:
        """Writes nothing."""
