"""An exchange as OpenAI's response: one object, or the events of a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from recollect.tools import ToolCall
from recollect.trajectory import Usage
from server.agents.base import StreamEvent
from server.engines.base import CallPiece
from server.routes.errors import body_of
from server.routes.said import Said, extension, whole
from server.routes.wire_responses import Offered
from server.service import RESPONSE_PREFIX, Exchange

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the request comes back in the response. `names`: how the client calls the tools that the model was offered."""

    echo: Json
    names: Mapping[str, Offered]


async def response(exchange: Exchange, asked: Asked, *, created: int) -> Json:
    """The whole answer. Raises what the exchange raises."""
    said = (await whole(exchange)).get(0, Said())
    output = [_text_item(exchange, 0, said.text, said.told)] if said.text or not said.calls else []
    output += [_call_item(exchange, asked, len(output) + index, call) for index, call in enumerate(said.calls)]
    return _ended(exchange, asked, created, output, said.finish_reason)


class ResponseEvents:
    """The answer as server-sent events. Its end goes out only when everything promised is durable."""

    def __init__(self, exchange: Exchange, asked: Asked, *, created: int) -> None:
        self._exchange = exchange
        self._asked = asked
        self._created = created
        self._number = -1
        self._output: list[Json] = []
        self._text: Said | None = None
        """The text that is being given; None: none is."""
        self._call: ToolCall | None = None
        self._finish: str | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """`event:` and `data:` lines. A failure is an `error` event and `response.failed`."""
        begun = _response(self._exchange, self._asked, self._created, "in_progress", [])
        yield self._event("response.created", response=begun)
        yield self._event("response.in_progress", response=begun)
        try:
            async for events in self._exchange.batches():
                yield b"".join(data for event in events if event.index == 0 for data in self._told(event))
        except Exception as exc:  # noqa: BLE001
            # The boundary of a stream whose status has gone out: the error can only be told as an event.
            error = body_of(exc)["error"]
            failed = _response(self._exchange, self._asked, self._created, "failed", self._output)
            failed["error"] = {"code": "server_error", "message": error["message"]}
            yield self._event("error", code=error["code"], message=error["message"], param=error["param"], error=error)
            yield self._event("response.failed", response=failed)
            return
        if self._text is None and self._call is None and not self._output:
            for data in self._begin_text():
                yield data
        for data in self._close():
            yield data
        ended = _ended(self._exchange, self._asked, self._created, self._output, self._finish)
        yield self._event("response.incomplete" if ended["status"] == "incomplete" else "response.completed", response=ended)

    def _told(self, event: StreamEvent) -> list[bytes]:
        self._finish = event.finish_reason or self._finish
        events: list[bytes] = []
        if event.text or (event.told and self._text is not None):
            if self._text is None:
                events += [*self._close(), *self._begin_text()]
            assert self._text is not None
            self._text.add(event)
            events.append(self._event("response.output_text.delta", **self._place(), delta=event.text, logprobs=list(event.told)))
        for piece in event.calls:
            events += self._called(piece)
        return events

    def _called(self, piece: CallPiece) -> list[bytes]:
        events: list[bytes] = []
        if piece.id is not None or self._call is None:
            events += self._close()
            self._call = ToolCall(id=piece.id or "", name=piece.name or "", arguments="")
            events.append(self._event("response.output_item.added", output_index=len(self._output), item=self._call_item("in_progress")))
        if piece.arguments:
            self._call = self._call.model_copy(update={"arguments": self._call.arguments + piece.arguments})
            if not self._is_custom(self._call):
                events.append(self._event("response.function_call_arguments.delta", **self._at(), delta=piece.arguments))
        return events

    def _begin_text(self) -> list[bytes]:
        self._text = Said()
        item = _text_item(self._exchange, len(self._output), None, ())
        part = _text_part("", ())
        return [
            self._event("response.output_item.added", output_index=len(self._output), item=item),
            self._event("response.content_part.added", **self._place(), part=part),
        ]

    def _close(self) -> list[bytes]:
        if self._text is not None:
            return self._close_text(self._text)
        return self._close_call(self._call) if self._call is not None else []

    def _close_text(self, said: Said) -> list[bytes]:
        item = _text_item(self._exchange, len(self._output), said.text, said.told)
        part = _text_part(said.text, said.told)
        events = [
            self._event("response.output_text.done", **self._place(), text=said.text, logprobs=list(said.told)),
            self._event("response.content_part.done", **self._place(), part=part),
            self._event("response.output_item.done", output_index=len(self._output), item=item),
        ]
        self._text = None
        self._output.append(item)
        return events

    def _close_call(self, call: ToolCall) -> list[bytes]:
        item = self._call_item("completed")
        if self._is_custom(call):
            events = [
                self._event("response.custom_tool_call_input.delta", **self._at(), delta=item["input"]),
                self._event("response.custom_tool_call_input.done", **self._at(), input=item["input"]),
            ]
        else:
            events = [self._event("response.function_call_arguments.done", **self._at(), name=item["name"], arguments=call.arguments)]
        events.append(self._event("response.output_item.done", output_index=len(self._output), item=item))
        self._call = None
        self._output.append(item)
        return events

    def _call_item(self, status: str) -> Json:
        assert self._call is not None
        return _call_item(self._exchange, self._asked, len(self._output), self._call, status)

    def _is_custom(self, call: ToolCall) -> bool:
        return call.name in self._asked.names and self._asked.names[call.name].custom

    def _at(self) -> Json:
        return {"item_id": _item_id("fc", self._exchange, len(self._output)), "output_index": len(self._output)}

    def _place(self) -> Json:
        return {"item_id": _item_id("msg", self._exchange, len(self._output)), "output_index": len(self._output), "content_index": 0}

    def _event(self, name: str, /, **content: Any) -> bytes:
        self._number += 1
        return f"event: {name}\ndata: ".encode() + to_json({"type": name, "sequence_number": self._number, **content}) + b"\n\n"


def _ended(exchange: Exchange, asked: Asked, created: int, output: list[Json], finish: str | None) -> Json:
    cut = finish == "length"
    ended = _response(exchange, asked, created, "incomplete" if cut else "completed", output)
    return {
        **ended,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "usage": _usage(exchange.usage),
        "recollect": extension(exchange),
    }


def _response(exchange: Exchange, asked: Asked, created: int, status: str, output: list[Json]) -> Json:
    head = {"id": RESPONSE_PREFIX + exchange.trajectory_id, "object": "response", "created_at": created, "status": status}
    return {**head, "error": None, "incomplete_details": None, "output": list(output), "usage": None, **asked.echo}


def _item_id(kind: str, exchange: Exchange, index: int) -> str:
    return f"{kind}_{exchange.trajectory_id}_{index}"


def _text_item(exchange: Exchange, index: int, text: str | None, told: Any) -> Json:
    """`text` None: it is only beginning."""
    content = [] if text is None else [_text_part(text, told)]
    status = "in_progress" if text is None else "completed"
    return {"id": _item_id("msg", exchange, index), "type": "message", "role": "assistant", "status": status, "content": content}


def _text_part(text: str, told: Any) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": [_entry(entry) for entry in told]}


def _entry(entry: Json) -> Json:
    return {**entry, "bytes": entry["bytes"] or []}


def _call_item(exchange: Exchange, asked: Asked, index: int, call: ToolCall, status: str = "completed") -> Json:
    offered = asked.names.get(call.name, Offered(call.name, None, custom=False))
    named = {"id": _item_id("fc", exchange, index), "call_id": call.id, "name": offered.name, "status": status}
    if offered.namespace is not None:
        named["namespace"] = offered.namespace
    if offered.custom:
        return {"type": "custom_tool_call", **named, "input": _free_text(call.arguments)}
    return {"type": "function_call", **named, "arguments": call.arguments}


def _free_text(arguments: str) -> str:
    """The text in a custom tool's one argument; what the model wrote instead, if it is none."""
    try:
        value = json.loads(arguments)["input"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return arguments
    return value if isinstance(value, str) else arguments


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }
