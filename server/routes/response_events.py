"""An exchange as OpenAI's response: one object, or the events of a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pydantic_core import to_json

from recollect.tools import ToolCall
from server.agents.base import StreamEvent
from server.engines.base import CallPiece
from server.routes.errors import body_of
from server.routes.response_items import (
    Asked,
    Json,
    broken,
    call_item,
    ended,
    failed,
    item_id,
    output_of,
    reasoning_item,
    reasoning_part,
    response_of,
    text_item,
    text_part,
)
from server.routes.said import Said, extension, whole
from server.routes.told import SaidTokens
from server.service import Exchange


async def response(exchange: Exchange, asked: Asked) -> Json:
    """The whole answer. Raises what the exchange raises."""
    said = (await whole(exchange)).get(0, Said())
    output = output_of(exchange.trajectory_id, asked.names, said)
    return ended(exchange.trajectory_id, asked, output, said.finish_reason, exchange.usage, extension(exchange))


class ResponseEvents:
    """The answer as server-sent events. Its end goes out only when everything promised is durable."""

    def __init__(self, exchange: Exchange, asked: Asked) -> None:
        self._exchange = exchange
        self._id = exchange.trajectory_id
        self._asked = asked
        self._number = -1
        self._output: list[Json] = []
        self._text: Said | None = None
        """The text that is being given; None: none is."""
        self._reasoning: str | None = None
        self._held = ""
        """What was thought while a call was being written: it follows the call, which would else be torn in two."""
        self._call: ToolCall | None = None
        self._finish: str | None = None
        self._tokens = SaidTokens()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """`event:` and `data:` lines. A failure is an `error` event and `response.failed`."""
        begun = response_of(self._id, self._asked, "in_progress", [])
        yield self._event("response.created", response=begun)
        yield self._event("response.in_progress", response=begun)
        try:
            async for events in self._exchange.batches():
                yield b"".join(data for event in events if event.index == 0 for data in self._told(event))
        except Exception as exc:  # noqa: BLE001
            # The boundary of a stream whose status has gone out: the error can only be told as an event.
            error = body_of(exc)["error"]
            yield self._event("error", code=error["code"], message=error["message"], param=error["param"], error=error)
            yield self._event("response.failed", response=failed(self._id, self._asked, self._so_far(), error["message"]))
            return
        if self._text is None and self._call is None and all(item["type"] == "reasoning" for item in self._output):
            for data in [*self._close(), *self._begin_text()]:
                yield data
        for data in self._close():
            yield data
        last = ended(self._id, self._asked, self._output, self._finish, self._exchange.usage, extension(self._exchange))
        yield self._event(f"response.{last['status']}", response=last)

    def _told(self, event: StreamEvent) -> list[bytes]:
        self._finish = event.finish_reason or self._finish
        events: list[bytes] = []
        if event.reasoning:
            if self._call is not None:
                self._held += event.reasoning
            else:
                events += self._thought(event.reasoning)
        told = self._tokens.told(event)
        if event.text or (told and self._text is not None):
            if self._text is None:
                events += [*self._close(), *self._begin_text()]
            assert self._text is not None
            self._text.text += event.text
            self._text.told += told
            events.append(self._event("response.output_text.delta", **self._place(), delta=event.text, logprobs=list(told)))
        for piece in event.calls:
            events += self._called(piece)
        return events

    def _thought(self, reasoning: str) -> list[bytes]:
        begun = [*self._close(), *self._begin_reasoning()] if self._reasoning is None else []
        self._reasoning = (self._reasoning or "") + reasoning
        return [*begun, self._event("response.reasoning_text.delta", **self._place("rs"), delta=reasoning)]

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

    def _begin_reasoning(self) -> list[bytes]:
        item = reasoning_item(self._item_id("rs"), None)
        return [
            self._event("response.output_item.added", output_index=len(self._output), item=item),
            self._event("response.content_part.added", **self._place("rs"), part=reasoning_part("")),
        ]

    def _begin_text(self) -> list[bytes]:
        self._text = Said()
        item = text_item(self._item_id("msg"), None)
        part = text_part("", ())
        return [
            self._event("response.output_item.added", output_index=len(self._output), item=item),
            self._event("response.content_part.added", **self._place(), part=part),
        ]

    def _so_far(self) -> list[Json]:
        """The items, the one that is open too, of an answer that failed."""
        output = [*self._output]
        if self._text is not None:
            output.append(text_item(self._item_id("msg"), self._text.text, self._text.told))
        elif self._reasoning is not None:
            output.append(reasoning_item(self._item_id("rs"), self._reasoning))
        elif self._call is not None:
            output.append(self._call_item("completed"))
        return broken(output, self._finish)

    def _close(self) -> list[bytes]:
        if self._text is not None:
            return self._close_text(self._text)
        if self._reasoning is not None:
            return self._close_reasoning(self._reasoning)
        if self._call is None:
            return []
        events = self._close_call(self._call)
        if held := self._held:
            self._held = ""
            events += [*self._thought(held), *self._close_reasoning(held)]
        return events

    def _close_reasoning(self, reasoning: str) -> list[bytes]:
        item = reasoning_item(self._item_id("rs"), reasoning)
        events = [
            self._event("response.reasoning_text.done", **self._place("rs"), text=reasoning),
            self._event("response.content_part.done", **self._place("rs"), part=reasoning_part(reasoning)),
            self._event("response.output_item.done", output_index=len(self._output), item=item),
        ]
        self._reasoning = None
        self._output.append(item)
        return events

    def _close_text(self, said: Said) -> list[bytes]:
        item = text_item(self._item_id("msg"), said.text, said.told)
        part = text_part(said.text, said.told)
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
        return call_item(self._item_id("fc"), self._asked.names, self._call, status)

    def _is_custom(self, call: ToolCall) -> bool:
        return call.name in self._asked.names and self._asked.names[call.name].custom

    def _at(self) -> Json:
        return {"item_id": self._item_id("fc"), "output_index": len(self._output)}

    def _place(self, kind: str = "msg") -> Json:
        return {"item_id": self._item_id(kind), "output_index": len(self._output), "content_index": 0}

    def _item_id(self, kind: str) -> str:
        return item_id(kind, self._id, len(self._output))

    def _event(self, name: str, /, **content: Any) -> bytes:
        self._number += 1
        return f"event: {name}\ndata: ".encode() + to_json({"type": name, "sequence_number": self._number, **content}) + b"\n\n"
