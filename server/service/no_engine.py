"""The engine of a server that has none: memories are served, agents are not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from recollect.errors import EngineUnavailable
from recollect.messages import Message
from recollect.policy import Policy
from recollect.tools import Tools
from server.engines.base import Chunk, Health, Sampling

DETAIL = "no engine (engine.kind is none): memories alone are served"


class NoEngine:
    """Answers nothing. It counts as ready, for nothing is waited for."""

    exact = False
    guided = False
    window: int | None = None

    @property
    def base(self) -> str:
        raise self._absent()

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
        raise self._absent()

    def complete(
        self, prompt_ids: Sequence[int], *, policy: Policy, sampling: Sampling, stream: bool = False, salt: str | None = None
    ) -> AsyncIterator[Chunk]:
        raise self._absent()

    async def encode(self, text: str) -> list[int]:
        raise self._absent()

    async def render(self, messages: Sequence[Message]) -> str:
        raise self._absent()

    async def decode(self, ids: Sequence[int]) -> str:
        raise self._absent()

    async def count(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        raise self._absent()

    async def load_adapter(self, policy: Policy, path: str) -> None:
        raise self._absent()

    async def unload_adapter(self, policy: Policy) -> None:
        """Nothing was loaded."""

    async def health(self) -> Health:
        return Health(True, DETAIL)

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to end."""

    def _absent(self) -> EngineUnavailable:
        return EngineUnavailable(f"{DETAIL}; set engine.kind and start the server again")
