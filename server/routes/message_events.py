"""An exchange as Anthropic's message: one object, or the events of a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

from pydantic_core import to_json

from recollect.tools import ToolCall
from recollect.trajectory import Usage
from server.agents.base import StreamEvent
from server.engines.base import CallPiece, add_pieces
from server.routes.errors import MESSAGES, body_of, shaped
from server.routes.said import Said, extension, whole
from server.service import MESSAGE_PREFIX, Exchange

THOUGHT: dict[str, Any] = {"type": "thinking", "thinking": "", "signature": ""}
"""Nothing is signed: what comes back of it is not read."""
_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


async def message(exchange: Exchange, *, model: str, thinking: bool) -> dict[str, Any]:
    """The whole answer. `thinking`: with what was thought before it. Raises what the exchange raises."""
    said = (await whole(exchange)).get(0, Said())
    content = [{**THOUGHT, "thinking": said.reasoning}] if thinking and said.reasoning else []
    content += [{"type": "text", "text": said.text}] if said.text or not said.calls else []
    content += [{"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call)} for call in said.calls]
    ends = {**_ending(said), "usage": _usage(exchange.usage)}
    return {**_head(exchange, model), "content": content, **ends, "recollect": extension(exchange)}


class MessageEvents:
    """The answer as server-sent events. Its end goes out only when everything promised is durable."""

    def __init__(self, exchange: Exchange, *, model: str, thinking: bool) -> None:
        """`thinking`: with what was thought before it."""
        self._exchange = exchange
        self._model = model
        self._thinking = thinking
        self._spoken = False
        """Whether a block was begun that is no thought."""
        self._index = -1
        self._open = ""
        """The type of the block that is open; empty: none is."""
        self._held = ""
        """What was thought while a call was being written: it follows the call, whose pieces would else go to the thought's block."""
        self._end = Said()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """`event:` and `data:` lines. A failure is an error event, and then there is no `message_stop`."""
        start: dict[str, Any] = {
            **_head(self._exchange, self._model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(Usage()),
        }
        yield _event("message_start", {"message": start})
        try:
            async for events in self._exchange.batches():
                yield b"".join(data for event in events if event.index == 0 for data in self._told(event))
        except Exception as exc:  # noqa: BLE001
            # The boundary of a stream whose status has gone out: the error can only be told as an event.
            yield _event("error", shaped(body_of(exc), MESSAGES))
            return
        if not self._spoken:
            yield b"".join([*self._closed(), self._begin({"type": "text", "text": ""})])
        yield b"".join(self._closed())
        ending = _ending(self._end)
        told = {"delta": ending, "usage": _usage(self._exchange.usage), "recollect": extension(self._exchange)}
        yield _event("message_delta", told)
        yield _event("message_stop", {})

    def _told(self, event: StreamEvent) -> list[bytes]:
        self._end.finish_reason = event.finish_reason or self._end.finish_reason
        self._end.stopped_by = event.stopped_by or self._end.stopped_by
        events: list[bytes] = []
        if event.reasoning and self._thinking:
            if self._open == "tool_use":
                self._held += event.reasoning
            else:
                events += self._thought(event.reasoning)
        if event.text:
            if self._open != "text":
                events += [*self._closed(), self._begin({"type": "text", "text": ""})]
            events.append(self._delta({"type": "text_delta", "text": event.text}))
        add_pieces(self._end.calls, event.calls)
        for piece in event.calls:
            events += self._called(piece)
        return events

    def _thought(self, reasoning: str) -> list[bytes]:
        begun = [*self._closed(), self._begin(THOUGHT)] if self._open != "thinking" else []
        return [*begun, self._delta({"type": "thinking_delta", "thinking": reasoning})]

    def _called(self, piece: CallPiece) -> list[bytes]:
        begun: list[bytes] = []
        if piece.id is not None:
            block: dict[str, Any] = {"type": "tool_use", "id": piece.id, "name": piece.name or "", "input": {}}
            begun = [*self._closed(), self._begin(block)]
        return [*begun, self._delta({"type": "input_json_delta", "partial_json": piece.arguments})] if piece.arguments else begun

    def _begin(self, block: dict[str, Any]) -> bytes:
        self._index += 1
        self._open = block["type"]
        self._spoken = self._spoken or self._open != "thinking"
        return _event("content_block_start", {"index": self._index, "content_block": block})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": delta})

    def _closed(self) -> list[bytes]:
        if not self._open:
            return []
        events = [self._stop()]
        if held := self._held:
            self._held = ""
            events += [*self._thought(held), self._stop()]
        return events

    def _stop(self) -> bytes:
        self._open = ""
        return _event("content_block_stop", {"index": self._index})


def _head(exchange: Exchange, model: str) -> dict[str, Any]:
    return {"id": MESSAGE_PREFIX + exchange.trajectory_id, "type": "message", "role": "assistant", "model": model}


def _ending(said: Said) -> dict[str, Any]:
    reason = _REASONS.get(said.finish_reason or "", "end_turn")
    if said.stopped_by is not None:
        reason = "stop_sequence"
    elif said.calls and reason == "end_turn":  # how engines end a call that was asked for by its name
        reason = "tool_use"
    return {"stop_reason": reason, "stop_sequence": said.stopped_by}


def _usage(usage: Usage) -> dict[str, int]:
    cached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens, **cached}


def _input(call: ToolCall) -> dict[str, Any]:
    """The arguments. What the model wrote that is no JSON object is passed on under a name of its own, for the client to refuse."""
    try:
        value = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return {"unreadable_arguments": call.arguments}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {"unreadable_arguments": call.arguments}


def _event(name: str, content: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: ".encode() + to_json({"type": name, **content}) + b"\n\n"
