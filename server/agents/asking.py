"""One recorded call of a policy whose whole answer is wanted, by a module that does not stream."""

from __future__ import annotations

from collections.abc import Sequence

from recollect.messages import Message
from recollect.trajectory import MemoryRef, Step
from server.agents.base import AgentContext
from server.engines.base import Sampling


async def asked(
    alias: str, messages: Sequence[Message], ctx: AgentContext, *, role: str, sampling: Sampling, retrieved: Sequence[MemoryRef] = ()
) -> Step:
    """The step of the call, with its text and tokens. Raises what the engine raises; the failed step is recorded too."""
    policy = ctx.policies[alias]
    chunks = ctx.engine.chat(messages, policy=policy, sampling=sampling, salt=ctx.salt)
    async for _ in ctx.recorder.call(
        chunks, role=role, policy=policy, alias=alias, sampling=sampling, messages=messages, retrieved=retrieved
    ):
        pass
    return ctx.recorder.steps[-1]
