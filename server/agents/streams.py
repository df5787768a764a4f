"""From the engine's chunks to the events of an answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from recollect.trajectory import Usage
from server.agents.base import StreamEvent
from server.engines.base import Chunk


async def events_of(chunks: AsyncGenerator[Chunk, None], before: Usage) -> AsyncGenerator[StreamEvent, None]:
    """Pass chunks on as they come, without those that say nothing. `before` is what was used up to this call."""
    async with aclosing(chunks):
        async for chunk in chunks:
            usage = None if chunk.usage is None else before + chunk.usage
            if chunk.text or chunk.reasoning or chunk.calls or chunk.told or chunk.finish_reason or usage:
                yield StreamEvent(
                    chunk.index, chunk.text, chunk.calls, chunk.told, chunk.finish_reason, chunk.stopped_by, usage, chunk.reasoning
                )
