"""An exchange as OpenAI's chat completion: one object, or a stream of chunks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic_core import to_json

from recollect.trajectory import Usage
from server.agents.base import StreamEvent
from server.engines.base import CallPiece
from server.routes.errors import body_of
from server.routes.said import Said, extension, whole
from server.routes.told import SaidTokens
from server.service import COMPLETION_PREFIX, Exchange


async def completion(exchange: Exchange, *, model: str, created: int) -> dict[str, Any]:
    """The whole answer. Raises what the exchange raises."""
    said = await whole(exchange)
    choices = [
        {
            "index": index,
            "message": _message(choice),
            "logprobs": {"content": choice.told, "refusal": None} if choice.told else None,
            "finish_reason": choice.finish_reason or "stop",
        }
        for index, choice in sorted(said.items())
    ]
    return {
        "id": COMPLETION_PREFIX + exchange.trajectory_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": choices,
        "usage": _usage(exchange.usage),
        "recollect": extension(exchange),
    }


class Streamed:
    """The answer as server-sent events. The ends of its choices go out only when everything promised is durable."""

    def __init__(self, exchange: Exchange, *, model: str, created: int, include_usage: bool) -> None:
        self._exchange = exchange
        self._include_usage = include_usage
        self._head = {
            "id": COMPLETION_PREFIX + exchange.trajectory_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
        }
        self._reasons: dict[int, str] = {}
        self._begun: set[int] = set()
        self._tokens: defaultdict[int, SaidTokens] = defaultdict(SaidTokens)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """`data:` lines with their blank line. A failure is an error event, and then there is no `[DONE]`."""
        try:
            async for events in self._exchange.batches():
                yield b"".join(self._told(event) for event in events)
        except Exception as exc:  # noqa: BLE001
            # The boundary of a stream whose status has gone out: the error can only be told as an event.
            yield _data(body_of(exc))
            return
        yield b"".join(self._end())

    def _told(self, event: StreamEvent) -> bytes:
        if event.finish_reason:
            self._reasons[event.index] = event.finish_reason
        told = self._tokens[event.index].told(event)
        said = event.text or event.reasoning or event.calls or told or event.index not in self._begun
        return self._delta(event, told) if said else b""

    def _delta(self, event: StreamEvent, told: Sequence[dict[str, Any]]) -> bytes:
        delta: dict[str, Any] = {"tool_calls": [_piece(piece) for piece in event.calls]} if event.calls else {}
        if event.reasoning:
            delta = {"reasoning_content": event.reasoning, **delta}
        if event.text or not delta:
            delta = {"content": event.text, **delta}
        if event.index not in self._begun:
            self._begun.add(event.index)
            delta = {"role": "assistant", **delta}
        logprobs = {"content": told, "refusal": None} if told else None
        return self._chunk([{"index": event.index, "delta": delta, "logprobs": logprobs, "finish_reason": None}])

    def _end(self) -> list[bytes]:
        last = {"recollect": extension(self._exchange)}
        indices = sorted(self._begun)
        ends: list[dict[str, Any]] = [
            {"index": i, "delta": {}, "logprobs": None, "finish_reason": self._reasons.get(i, "stop")} for i in indices
        ]
        if self._include_usage:
            chunks = [self._chunk([end]) for end in ends]
            chunks.append(_data({**self._head, "choices": [], "usage": _usage(self._exchange.usage), **last}))
        else:
            chunks = [self._chunk([end], last if end is ends[-1] else None) for end in ends]
        return [*chunks, b"data: [DONE]\n\n"]

    def _chunk(self, choices: list[dict[str, Any]], more: dict[str, Any] | None = None) -> bytes:
        usage = {"usage": None} if self._include_usage else {}
        return _data({**self._head, "choices": choices, **usage, **(more or {})})


def _message(choice: Said) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.calls:
        calls = [{"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in choice.calls]
        message |= {"content": choice.text or None, "tool_calls": calls}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    return message


def _piece(piece: CallPiece) -> dict[str, Any]:
    if piece.id is None:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    return {"index": piece.index, "id": piece.id, "type": "function", "function": {"name": piece.name, "arguments": piece.arguments}}


def _usage(usage: Usage) -> dict[str, int]:
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens, "total_tokens": usage.total_tokens}


def _data(content: dict[str, Any]) -> bytes:
    return b"data: " + to_json(content) + b"\n\n"
