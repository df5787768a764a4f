"""An exchange as OpenAI's chat completion: one object, or a stream of chunks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from recollect.trajectory import Usage
from server.routes.errors import body_of
from server.service import COMPLETION_PREFIX, Exchange


def extension(exchange: Exchange) -> dict[str, Any]:
    """The body field `recollect` of an answer."""
    memories = [{"id": memory.id, "score": memory.score} for memory in exchange.memories]
    spent = {role: used.model_dump() for role, used in exchange.spent.items()}
    return {"trajectory_id": exchange.trajectory_id, "policies": exchange.policies, "memories": memories, "spent": spent}


async def completion(exchange: Exchange, *, model: str, created: int) -> dict[str, Any]:
    """The whole answer. Raises what the exchange raises."""
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    async for event in exchange:
        texts[event.index] = texts.get(event.index, "") + event.text
        if event.finish_reason:
            reasons[event.index] = event.finish_reason
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": texts[index], "refusal": None},
            "logprobs": None,
            "finish_reason": reasons.get(index, "stop"),
        }
        for index in sorted(texts)
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

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """`data:` lines with their blank line. A failure is an error event, and then there is no `[DONE]`."""
        try:
            async for event in self._exchange:
                if event.text or event.index not in self._begun:
                    yield self._delta(event.index, event.text)
                if event.finish_reason:
                    self._reasons[event.index] = event.finish_reason
        except Exception as exc:  # noqa: BLE001
            # The boundary of a stream whose status has gone out: the error can only be told as an event.
            yield _data(body_of(exc))
            return
        for data in self._end():
            yield data

    def _delta(self, index: int, text: str) -> bytes:
        delta: dict[str, Any] = {"content": text}
        if index not in self._begun:
            self._begun.add(index)
            delta = {"role": "assistant", **delta}
        return self._chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])

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


def _usage(usage: Usage) -> dict[str, int]:
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens, "total_tokens": usage.total_tokens}


def _data(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
