"""An engine that repeats recorded calls first: how a rollout begins again from a memory that another one had written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from recollect.errors import EngineError
from recollect.messages import Message
from recollect.policy import Policy
from recollect.tools import Tools
from recollect.trajectory import Step
from server.engines.base import Chunk, Engine, Health, Sampling

T = TypeVar("T")


@dataclass(slots=True)
class RepeatingEngine:
    """The first calls are answered as they were recorded, all later ones by `engine`. Of one rollout, whose calls follow each other.

    What is asked must be what was asked when it was recorded: else the call raises EngineError.
    """

    engine: Engine
    recorded: Sequence[Step]
    num_repeated: int = 0

    @property
    def base(self) -> str:
        return self.engine.base

    @property
    def window(self) -> int | None:
        return self.engine.window

    @property
    def exact(self) -> bool:
        return self.engine.exact

    @property
    def guided(self) -> bool:
        return self.engine.guided

    def chat(
        self,
        messages: Sequence[Message],
        *,
        policy: Policy,
        sampling: Sampling,
        stream: bool = False,
        salt: str | None = None,
        tools: Tools | None = None,
    ) -> AsyncIterator[Chunk]:
        """The recorded answer to these messages, or the engine's."""
        if (step := self._next()) is not None:
            return self._again(step, same=step.messages == list(messages))
        return self.engine.chat(messages, policy=policy, sampling=sampling, stream=stream, salt=salt, tools=tools)

    def complete(
        self, prompt_ids: Sequence[int], *, policy: Policy, sampling: Sampling, stream: bool = False, salt: str | None = None
    ) -> AsyncIterator[Chunk]:
        """The recorded continuation of these ids, or the engine's."""
        if (step := self._next()) is not None:
            return self._again(step, same=step.prompt_ids == list(prompt_ids))
        return self.engine.complete(prompt_ids, policy=policy, sampling=sampling, stream=stream, salt=salt)

    async def encode(self, text: str) -> list[int]:
        return await self.engine.encode(text)

    async def render(self, messages: Sequence[Message]) -> str:
        return await self.engine.render(messages)

    async def decode(self, ids: Sequence[int]) -> str:
        return await self.engine.decode(ids)

    async def count(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        return await self.engine.count(messages, tools)

    async def load_adapter(self, policy: Policy, path: str) -> None:
        await self.engine.load_adapter(policy, path)

    async def unload_adapter(self, policy: Policy) -> None:
        await self.engine.unload_adapter(policy)

    async def health(self) -> Health:
        return await self.engine.health()

    async def start(self) -> None:
        """The engine that is asked later is started by whoever made it."""

    async def close(self) -> None:
        """And closed by them."""

    def _next(self) -> Step | None:
        if self.num_repeated == len(self.recorded):
            return None
        self.num_repeated += 1
        return self.recorded[self.num_repeated - 1]

    async def _again(self, step: Step, *, same: bool) -> AsyncGenerator[Chunk]:
        if not same:
            raise EngineError(f"a repeated rollout departs from the recorded one: step {step.index} ({step.role}) was asked something else")
        yield Chunk(
            text=step.text,
            reasoning=step.reasoning,
            token_ids=_tuple(step.completion_ids),
            logprobs=_tuple(step.logprobs),
            prompt_ids=_tuple(step.prompt_ids),
            finish_reason=step.finish_reason,
            usage=step.usage,
        )


def _tuple(values: Sequence[T] | None) -> tuple[T, ...] | None:
    return None if values is None else tuple(values)
