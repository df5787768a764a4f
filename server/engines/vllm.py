"""The HTTP client of a vLLM server: token-exact chats and completions, tokenization, adapters."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recollect.errors import AdapterRefused, ContextTooLong, EngineError, EngineUnavailable, InvalidRequest, NotFound
from recollect.messages import Message
from recollect.policy import Policy
from recollect.settings import Rest
from recollect.tools import Tools
from server.engines import adapter_files
from server.engines.answers import pieces, whole
from server.engines.base import Chunk, Health, Sampling
from server.engines.connection import Connection
from server.engines.recent import Recent
from server.engines.wire import logprobs_of, messages_of, tools_of

HEALTH_TIMEOUT_S = 5.0
PULSE_TIMEOUT_S = 60.0
FIRST_SEARCH_S, LAST_SEARCH_S = 0.2, 10.0
NO_PARSER = "tool-call-parser"
NO_TOOLS = (
    "the engine was not told how its model writes tool calls: set engine.tool_call_parser, as vLLM names it (hermes, llama3_json, ...)"
)
CACHED_CHARS = 8192
"""Longer texts are documents, which do not come again; prompts' constant parts are shorter."""
_REASON = re.compile(r"failed with error '(.*)', please check", re.DOTALL)


class VllmEngine:
    """A vLLM server at `url`.

    `base` is the name it serves its base model by; empty: learnt from the server. `model_path`: where the base model's
    files lie, if they are at hand; adapters are then checked against its shapes, which vLLM does not do by itself. `behind`:
    what is asked waits behind what others ask, where the server was started with `--scheduling-policy priority`.
    """

    exact = True
    guided = True

    def __init__(
        self,
        url: str,
        *,
        base: str = "",
        api_key: str = "",
        timeout_s: float = 600.0,
        max_lora_rank: int = 16,
        model_path: Path | None = None,
        behind: bool = False,
        rests: Rest = "none",
    ) -> None:
        self.rests = rests
        self._connection = Connection(url, api_key=api_key, timeout_s=timeout_s)
        self._base = base
        self._window: int | None = None
        self._max_lora_rank = max_lora_rank
        self._model_path = model_path
        self._order = {"priority": 1} if behind else {}
        self._in_flight = 0
        self._search: asyncio.Task[None] | None = None
        self._heard_at = time.monotonic()
        self._encoded: Recent[str, tuple[int, ...]] = Recent(1024)
        self._rendered: Recent[tuple[Message, ...], str] = Recent(1024)

    @property
    def url(self) -> str:
        """The server's root."""
        return self._connection.url

    @property
    def base(self) -> str:
        """The base model's name. Raises EngineUnavailable if the server has not been reached yet."""
        if not self._base:
            raise EngineUnavailable(f"the engine at {self.url} has not been reached yet")
        return self._base

    @property
    def window(self) -> int | None:
        """Tokens of prompt and completion together; None until the server was reached."""
        return self._window

    @property
    def stalled_s(self) -> float:
        """Seconds since the last piece of an answer, if answers are awaited; else 0."""
        return time.monotonic() - self._heard_at if self._in_flight else 0.0

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
        """Answer a conversation under the model's chat template."""
        if sampling.at_most and self._window is not None and (sampling.max_tokens or 0) >= self._window:
            sampling = replace(sampling, max_tokens=None)  # the server refuses such a number before it looks at the prompt
        try:
            async with contextlib.aclosing(self._chat(messages, policy, sampling, stream, salt, tools)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ContextTooLong as exc:
            # The server stops counting at its window; people want to know how much to cut.
            num_tokens = await self.count(messages, tools)
            if num_tokens >= exc.window_tokens or not sampling.at_most:
                raise ContextTooLong(num_tokens, exc.window_tokens) from exc
            # There is less room than the limit: without one the engine fills the window.
            async with contextlib.aclosing(self._chat(messages, policy, replace(sampling, max_tokens=None), stream, salt, tools)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _chat(
        self, messages: Sequence[Message], policy: Policy, sampling: Sampling, stream: bool, salt: str | None, tools: Tools | None
    ) -> AsyncGenerator[Chunk]:
        asked = {"model": policy.name, "messages": messages_of(messages), **tools_of(tools)}
        body = {**asked, **logprobs_of(sampling), "return_token_ids": True, **sampling.fields(), **_salted(salt)}
        try:
            async with contextlib.aclosing(self._answer("/v1/chat/completions", body, sampling, stream)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except InvalidRequest as exc:
            if NO_PARSER not in exc.message:
                raise
            raise InvalidRequest(NO_TOOLS, param="tools", code="unsupported_parameter") from exc

    async def complete(
        self, prompt_ids: Sequence[int], *, policy: Policy, sampling: Sampling, stream: bool = False, salt: str | None = None
    ) -> AsyncIterator[Chunk]:
        """Continue a prompt given as ids."""
        if self._window is None:
            await self.discover()
        room = (self._window or 0) - len(prompt_ids)
        if room < 1:
            raise ContextTooLong(len(prompt_ids), self._window or 0)
        body = {
            "model": policy.name,
            "prompt": list(prompt_ids),
            "logprobs": 0,
            "return_token_ids": True,
            # Left out, this endpoint's default would be 16 tokens.
            "max_tokens": room,
            **(replace(sampling, max_tokens=min(room, sampling.max_tokens or room)) if sampling.at_most else sampling).fields(),
            **_salted(salt),
        }
        async with contextlib.aclosing(self._answer("/v1/completions", body, sampling, stream)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def encode(self, text: str) -> list[int]:
        """The ids of a text, without added special tokens."""
        if (known := self._encoded.get(text)) is not None:
            return list(known)
        ids = await self._tokenize({"prompt": text, "add_special_tokens": False})
        if len(text) <= CACHED_CHARS:
            self._encoded.put(text, tuple(ids))
        return ids

    async def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        answer = await self._connection.post_json("/detokenize", {"tokens": list(ids)})
        return str(answer["prompt"])

    async def render(self, messages: Sequence[Message]) -> str:
        """The conversation's text under the chat template, such that its ids are those that `chat` would prompt with."""
        key = tuple(messages)
        if (known := self._rendered.get(key)) is not None:
            return known
        ids = await self._tokenize({"messages": messages_of(messages)})
        text = await self.decode(ids)
        if await self.encode(text) != ids:
            text = await self._prompt_text(messages)
            if await self.encode(text) != ids:
                raise EngineError("the model's chat template cannot be written as a text that encodes to the same tokens")
        if len(text) <= CACHED_CHARS:
            self._rendered.put(key, text)
        return text

    async def count(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        """How many tokens `chat` would prompt with."""
        offered = {name: value for name, value in tools_of(tools).items() if name == "tools"}
        return len(await self._tokenize({"messages": messages_of(messages), **offered}))

    async def load_adapter(self, policy: Policy, path: str) -> None:
        """Load the adapter in folder `path` under the policy's name. AdapterRefused with the reason if it does not fit."""
        if policy.adapter is None:
            raise AdapterRefused(f"{policy.name!r} is the base model, no adapter", param="policy")
        folder = await asyncio.to_thread(adapter_files.check, Path(path), max_rank=self._max_lora_rank, model=self._model_path)
        try:
            await self._connection.post("/v1/load_lora_adapter", {"lora_name": policy.name, "lora_path": str(folder)})
        except EngineUnavailable:
            raise
        except NotFound as exc:
            if "Not Found" in exc.message:
                hint = "start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
                raise AdapterRefused(f"the engine at {self.url} takes no adapters while it runs; {hint}") from exc
            raise AdapterRefused(f"{policy.name}: {exc.message}", param="path") from exc
        except (EngineError, InvalidRequest) as exc:
            if "already been loaded" in exc.message:
                return
            reason = _REASON.search(exc.message)
            raise AdapterRefused(f"{policy.name} does not fit the engine: {reason[1] if reason else exc.message}", param="path") from exc

    async def unload_adapter(self, policy: Policy) -> None:
        """Forget an adapter; requests in flight finish."""
        try:
            await self._connection.post("/v1/unload_lora_adapter", {"lora_name": policy.name})
        except NotFound:
            return

    async def health(self) -> Health:
        """Whether the server answers and its engine core lives."""
        try:
            await self._connection.get("/health", timeout_s=HEALTH_TIMEOUT_S)
            if self._window is None or not self._base:
                await self.discover()
        except EngineError as exc:
            return Health(False, exc.message)
        return Health(True, f"{self._base} at {self.url}, window {self._window} tokens")

    async def pulse(self) -> bool:
        """Whether one token comes out in time. For an engine whose server answers though its core may hang."""
        body = {"model": self._base, "prompt": [0], "max_tokens": 1}
        try:
            await self._connection.post("/v1/completions", body, timeout_s=PULSE_TIMEOUT_S)
        except EngineUnavailable:
            return False
        except (EngineError, InvalidRequest):
            return True
        return True

    async def rest(self) -> None:
        """Have the server sleep: weights go to the main memory, the cache is dropped. What is in flight is given up."""
        await self._have("/sleep?level=1&mode=abort")
        if not await self._asleep():
            raise EngineError(f"the engine at {self.url} was sent to sleep and is awake")

    async def wake(self) -> None:
        """End the sleep; one that does not sleep goes on."""
        await self._have("/wake_up")
        if await self._asleep():
            raise EngineError(f"the engine at {self.url} was woken and sleeps on")

    async def discover(self) -> None:
        """Learn the base model's name and window from the server."""
        listed = await self._connection.get_json("/v1/models", timeout_s=HEALTH_TIMEOUT_S)
        bases = {card["id"]: card for card in listed["data"] if not card.get("parent")}
        name = self._base or next(iter(bases), "")
        if name not in bases:
            raise EngineError(f"the engine at {self.url} serves {', '.join(bases) or 'nothing'}, not {name!r}; set engine.model")
        self._base, self._window = name, bases[name].get("max_model_len")

    async def start(self) -> None:
        """Begin to look for the server; returns at once."""
        if self._search is None:
            self._search = asyncio.create_task(self._find(), name=f"search for {self.url}")

    async def close(self) -> None:
        """Close the connections."""
        if self._search is not None:
            self._search.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._search
            self._search = None
        await self._connection.close()

    async def _find(self) -> None:
        delay_s = FIRST_SEARCH_S
        while True:
            health = await self.health()
            if health.ready:
                if self.rests == "sleep":  # a server that was killed may have left it so, and it answers its health check asleep
                    with contextlib.suppress(EngineError):
                        await self.wake()
                return
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LAST_SEARCH_S)

    async def _answer(self, path: str, body: dict[str, Any], sampling: Sampling, stream: bool) -> AsyncGenerator[Chunk]:
        if not self._in_flight:
            self._heard_at = time.monotonic()
        self._in_flight += 1
        told = sampling.top_logprobs is not None
        body = {**body, **self._order}
        try:
            if not stream:
                for chunk in whole(await self._connection.post_json(path, body), exact=True, n=sampling.n, told=told):
                    self._heard_at = time.monotonic()
                    yield chunk
                return
            events = self._connection.events(path, {**body, "stream": True, "stream_options": {"include_usage": True}})
            async with contextlib.aclosing(pieces(events, exact=True, n=sampling.n, told=told)) as chunks:
                async for chunk in chunks:
                    self._heard_at = time.monotonic()
                    yield chunk
        finally:
            self._in_flight -= 1

    async def _asleep(self) -> bool:
        return bool((await self._connection.get_json("/is_sleeping"))["is_sleeping"])

    async def _have(self, path: str) -> None:
        """Sleep or wake. Raises EngineError for a server that offers neither."""
        try:
            await self._connection.post(path, {})
        except (NotFound, InvalidRequest) as exc:
            hint = "start it with VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode, or set engine.rest=none"
            raise EngineError(f"the engine at {self.url} offers no sleep ({exc.message}); {hint}") from exc

    async def _tokenize(self, body: dict[str, Any]) -> list[int]:
        return list((await self._connection.post_json("/tokenize", body))["tokens"])

    async def _prompt_text(self, messages: Sequence[Message]) -> str:
        """The template's own text, where decoding its ids loses something. Costs one token of generation."""
        body = {"model": self._base, "messages": messages_of(messages), "max_tokens": 1, "return_prompt_text": True}
        answer = await self._connection.post_json("/v1/chat/completions", body)
        return str(answer.get("prompt_text") or "")


def _salted(salt: str | None) -> dict[str, str]:
    return {"cache_salt": salt} if salt else {}
