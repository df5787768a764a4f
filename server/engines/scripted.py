"""An engine without a model: a function answers. For tests and for trying the server without weights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from recollect.errors import AdapterRefused, ContextTooLong, EngineUnavailable, NotFound, RecollectError
from recollect.messages import Message
from recollect.policy import Policy
from recollect.settings import Rest
from recollect.tools import ToolCall, Tools
from recollect.trajectory import Usage
from server.engines import toy_tokens
from server.engines.base import CallPiece, Chunk, Health, Sampling


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """What the engine was asked. `messages` is empty for a completion of ids; `choice` counts up to `sampling.n`."""

    prompt: str
    prompt_ids: tuple[int, ...]
    policy: Policy
    sampling: Sampling
    messages: tuple[Message, ...] = ()
    stream: bool = False
    salt: str | None = None
    choice: int = 0
    tools: Tools | None = None


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer that calls tools, or thinks: first comes `reasoning`, then `text`, then the calls."""

    calls: tuple[ToolCall, ...] = ()
    text: str = ""
    reasoning: str = ""


Answered = str | Spoken | tuple[Chunk, ...]
"""Chunks go out as they are: for orders that an engine may answer in, and `Spoken` does not."""
Answer = Callable[[ScriptedCall], Answered]


def echo(call: ScriptedCall) -> str:
    """Answers with the last user message, or with the last line of a prompt given as ids."""
    return call.messages[-1].content if call.messages else call.prompt.rstrip().rsplit("\n", 1)[-1]


@dataclass(slots=True)
class Trouble:
    """What goes wrong. `fail` is raised before the first chunk, `failures` times (-1: always); `break_after` breaks a
    stream off after so many chunks; `delay_s` passes before each chunk; `hold`, while it is not set, keeps chunks back.
    """

    fail: RecollectError | None = None
    failures: int = -1
    break_after: int | None = None
    delay_s: float = 0.0
    hold: asyncio.Event | None = None
    refuse_adapters: str = ""
    unhealthy: str = ""


@dataclass(slots=True)
class ScriptedEngine:
    """Answers by `answer`, with ids of a toy tokenizer (one a byte), made-up log-probabilities and streaming in pieces.

    A `guided` one is asked with schemas, which are seen in `calls`; that the answers keep to them is up to `answer`.
    `calls` records what was asked, `adapters` what is loaded (policy name to path); a call to any other is NotFound.
    """

    answer: Answer = echo
    base: str = "scripted"
    window: int | None = 8192
    exact: bool = True
    guided: bool = False
    piece_tokens: int = 4
    trouble: Trouble = field(default_factory=Trouble)
    call_ends_with: str = "tool_calls"
    """The finish reason of an answer that calls tools; vLLM's is `stop` where a tool was asked for by its name."""
    recorded: bool = True
    """Whether `calls` records anything."""
    calls: list[ScriptedCall] = field(default_factory=list[ScriptedCall])
    adapters: dict[str, str] = field(default_factory=dict[str, str])
    in_flight: int = 0
    closed: bool = False
    rests: Rest = "none"
    resting: bool = False

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
        """Answer a conversation under the toy template."""
        prompt = toy_tokens.render(messages, tools)
        ids = tuple(toy_tokens.encode(prompt))
        return self._answers(ScriptedCall(prompt, ids, policy, sampling, tuple(messages), stream, salt, tools=tools))

    def complete(
        self, prompt_ids: Sequence[int], *, policy: Policy, sampling: Sampling, stream: bool = False, salt: str | None = None
    ) -> AsyncIterator[Chunk]:
        """Continue a prompt given as toy ids."""
        return self._answers(ScriptedCall(toy_tokens.decode(prompt_ids), tuple(prompt_ids), policy, sampling, stream=stream, salt=salt))

    async def encode(self, text: str) -> list[int]:
        """Toy ids."""
        return toy_tokens.encode(text)

    async def decode(self, ids: Sequence[int]) -> str:
        """The text of toy ids."""
        return toy_tokens.decode(ids)

    async def render(self, messages: Sequence[Message]) -> str:
        """A conversation under the toy template."""
        return toy_tokens.render(messages)

    async def count(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        """Toy ids of a conversation."""
        return len(toy_tokens.encode(toy_tokens.render(messages, tools)))

    async def load_adapter(self, policy: Policy, path: str) -> None:
        """Remember the adapter, unless trouble refuses it."""
        if self.resting:
            raise EngineUnavailable("it rests")
        if self.trouble.refuse_adapters:
            raise AdapterRefused(self.trouble.refuse_adapters, param="path")
        self.adapters.setdefault(policy.name, path)

    async def unload_adapter(self, policy: Policy) -> None:
        """Forget the adapter."""
        self.adapters.pop(policy.name, None)

    async def rest(self) -> None:
        """Answer nothing until it is woken."""
        self.resting = True

    async def wake(self) -> None:
        """Answer again."""
        self.resting = False

    async def health(self) -> Health:
        """Ready, unless trouble says otherwise."""
        if self.resting:
            return Health(False, "it rests")
        return Health(not self.trouble.unhealthy, self.trouble.unhealthy or "scripted")

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    async def _answers(self, call: ScriptedCall) -> AsyncGenerator[Chunk]:
        self._check(call)
        self.in_flight += 1
        try:
            choices = [self._choice(replace(call, choice=index)) for index in range(call.sampling.n)]
            tokens = sum(len(chunk.token_ids or ()) for chunks in choices for chunk in chunks)
            usage = Usage(prompt_tokens=len(call.prompt_ids), completion_tokens=tokens)
            chunks = [chunk for chunks in choices for chunk in chunks]
            chunks[-1] = replace(chunks[-1], usage=usage)
            for number, chunk in enumerate(chunks):
                await self._wait(number)
                yield chunk if self.exact else replace(chunk, token_ids=None, logprobs=None, prompt_ids=None)
        finally:
            self.in_flight -= 1

    def _check(self, call: ScriptedCall) -> None:
        if self.recorded:
            self.calls.append(call)
        trouble = self.trouble
        if self.resting:
            raise EngineUnavailable("it rests")
        if trouble.fail is not None and trouble.failures:
            trouble.failures -= 1
            raise trouble.fail
        if call.policy.adapter is not None and call.policy.name not in self.adapters:
            raise NotFound(f"no adapter {call.policy.name!r} is loaded", param="model")
        if self.window is not None and len(call.prompt_ids) >= self.window:
            raise ContextTooLong(len(call.prompt_ids), self.window)

    async def _wait(self, number: int) -> None:
        if self.trouble.hold is not None:
            await self.trouble.hold.wait()
        await asyncio.sleep(self.trouble.delay_s)
        if number == self.trouble.break_after:
            raise EngineUnavailable("the stream broke off before its end")

    def _choice(self, call: ScriptedCall) -> list[Chunk]:
        """The chunks of one choice: the answer's ids and the end token, cut at `stop` and `max_tokens`."""
        said = self.answer(call)
        if isinstance(said, tuple):
            return [replace(chunk, index=call.choice) for chunk in said]
        if isinstance(said, Spoken):
            return _spoken(call, said, self.piece_tokens, self.call_ends_with if said.calls else "stop")
        text = said
        ids = toy_tokens.encode(text)
        stops = [text.find(stop) + len(stop) for stop in call.sampling.stop if stop in text]
        stopped_by = None
        if stops:
            text = text[: min(stops)]
            ids = ids[: len(toy_tokens.encode(text))]
            stopped_by = next(stop for stop in call.sampling.stop if text.endswith(stop))
            text = text.removesuffix(stopped_by)
        else:
            ids.append(toy_tokens.END_ID)
        room = min(call.sampling.max_tokens or len(ids), (self.window or len(ids) + len(call.prompt_ids)) - len(call.prompt_ids))
        finish = "stop"
        if len(ids) > room:
            ids, finish, stopped_by = ids[:room], "length", None
            text = toy_tokens.decode(ids)
        chunks = _cut(call, text, ids, finish, self.piece_tokens if call.stream else len(ids))
        chunks[-1] = replace(chunks[-1], stopped_by=stopped_by)
        return chunks


def _spoken(call: ScriptedCall, said: Spoken, size: int, finish: str) -> list[Chunk]:
    """The chunks of such an answer: what was thought, its text, each call in two pieces, and the ids of all calls at the end."""
    thought = [replace(chunk, text="", reasoning=chunk.text) for chunk in _pieces(call, said.reasoning, size)]
    calls: list[Chunk] = []
    for index, each in enumerate(said.calls):
        begun = CallPiece(index, each.id, each.name), CallPiece(index, arguments=each.arguments)
        calls += [Chunk(call.choice, calls=(piece,)) for piece in begun]
    sampled = [*toy_tokens.encode(toy_tokens.written("", said.calls)), toy_tokens.END_ID]
    return [*thought, *_pieces(call, said.text, size), *calls, *_cut(call, "", sampled, finish, len(sampled))]


def _pieces(call: ScriptedCall, text: str, size: int) -> list[Chunk]:
    """A text that more follows on."""
    ids = toy_tokens.encode(text)
    return [replace(chunk, finish_reason=None) for chunk in _cut(call, text, ids, "", size if call.stream else len(ids) or 1)]


def _cut(call: ScriptedCall, text: str, ids: list[int], finish: str, size: int) -> list[Chunk]:
    chunks: list[Chunk] = []
    told = 0
    for start in range(0, len(ids), size):
        piece, last = ids[start : start + size], start + size >= len(ids)
        # A character whose bytes are still to come waits for them.
        known = text if last else toy_tokens.decode(ids[: start + size]).rstrip("\ufffd")[: len(text)]
        chunks.append(
            Chunk(
                index=call.choice,
                text=known[told:],
                token_ids=tuple(piece),
                told=tuple(_told(token) for token in piece) if call.sampling.top_logprobs is not None else (),
                logprobs=tuple(_logprob(token) for token in piece),
                prompt_ids=call.prompt_ids if start == 0 else None,
                finish_reason=finish if last else None,
            )
        )
        told = max(told, len(known))
    return chunks


def _logprob(token: int) -> float:
    return -(1 + token % 7) / 10


def _told(token: int) -> dict[str, Any]:
    text = toy_tokens.decode([token])
    return {"token": text, "logprob": _logprob(token), "bytes": list(text.encode()), "top_logprobs": []}
