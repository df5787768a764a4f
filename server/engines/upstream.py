"""Any OpenAI-compatible server as an engine: text only, so what it answers is kept but not trained on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from recollect.errors import AdapterRefused, ContextTooLong, EngineError, InvalidRequest, NotFound
from recollect.messages import Message
from recollect.policy import Policy
from recollect.tools import Tools
from server.engines.answers import pieces, whole
from server.engines.base import Chunk, Health, Sampling
from server.engines.connection import Connection
from server.engines.wire import logprobs_of, messages_of, tools_of

HEALTH_TIMEOUT_S = 5.0


class OpenAIUpstream:
    """The server at `url` (with or without `/v1`), which knows the model by the name `model`."""

    exact = False
    guided = False
    """Some servers hold answers to a schema, but none says so beforehand, and some refuse the field."""
    window: int | None = None

    def __init__(self, url: str, model: str, api_key: str = "", *, timeout_s: float = 600.0, key_setting: str = "engine.api_key") -> None:
        """`key_setting`: what an error about the key names."""
        self._connection = Connection(url, api_key=api_key, timeout_s=timeout_s, key_setting=key_setting)
        self.base = model

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        policy: Policy,
        sampling: Sampling,
        stream: bool = False,
        salt: str | None = None,
        tools: Tools | None = None,
    ) -> AsyncIterator[Chunk]:
        """Answer a conversation. `salt` is not sent: few servers know it, and some refuse unknown fields."""
        if policy.adapter is not None:
            raise NotFound(f"{self._connection.url} has no adapter {policy.name!r}; it serves {self.base!r} alone", param="model")
        try:
            async with aclosing(self._chat(messages, sampling, stream, tools)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except InvalidRequest as exc:
            too_many = isinstance(exc, ContextTooLong) or "max_tokens" in f"{exc.param} {exc.message}"
            if not (too_many and sampling.at_most and sampling.max_tokens):
                raise
            async with aclosing(self._chat(messages, replace(sampling, max_tokens=None), stream, tools)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _chat(self, messages: Sequence[Message], sampling: Sampling, stream: bool, tools: Tools | None) -> AsyncGenerator[Chunk]:
        fields = {name: value for name, value in sampling.fields().items() if name != "ignore_eos"}
        told = sampling.top_logprobs is not None
        body = {
            "model": self.base,
            "messages": messages_of(messages),
            **(logprobs_of(sampling) if told else {}),
            **fields,
            **tools_of(tools),
        }
        if not stream:
            for chunk in whole(await self._connection.post_json("/v1/chat/completions", body), exact=False, n=sampling.n, told=told):
                yield chunk
            return
        events = self._connection.events("/v1/chat/completions", {**body, "stream": True, "stream_options": {"include_usage": True}})
        async with aclosing(pieces(events, exact=False, n=sampling.n, told=told)) as chunks:
            async for chunk in chunks:
                yield chunk

    def complete(
        self, prompt_ids: Sequence[int], *, policy: Policy, sampling: Sampling, stream: bool = False, salt: str | None = None
    ) -> AsyncIterator[Chunk]:
        """Refused: there are no token ids."""
        raise self._inexact()

    async def encode(self, text: str) -> list[int]:
        """Refused: there are no token ids."""
        raise self._inexact()

    async def decode(self, ids: Sequence[int]) -> str:
        """Refused: there are no token ids."""
        raise self._inexact()

    async def render(self, messages: Sequence[Message]) -> str:
        """Refused: the template is not known."""
        raise self._inexact()

    async def count(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        """Refused: the template is not known."""
        raise self._inexact()

    async def load_adapter(self, policy: Policy, path: str) -> None:
        """Refused: other servers take adapters in other ways, if at all."""
        raise AdapterRefused(f"{self._connection.url} takes no adapters; use engine.kind vllm or attach", param="policy")

    async def unload_adapter(self, policy: Policy) -> None:
        """Nothing was loaded."""

    async def health(self) -> Health:
        """Whether the server lists its models."""
        try:
            await self._connection.get("/v1/models", timeout_s=HEALTH_TIMEOUT_S)
        except NotFound:
            return Health(True, f"{self.base} at {self._connection.url} (it lists no models)")
        except (EngineError, InvalidRequest) as exc:
            return Health(False, exc.message)
        return Health(True, f"{self.base} at {self._connection.url}")

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    def _inexact(self) -> InvalidRequest:
        return InvalidRequest(f"{self.base} at {self._connection.url} gives no token ids; use engine.kind vllm or attach", param="model")
