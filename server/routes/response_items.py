"""The parts of OpenAI's response: its head, the items of its output, what it used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recollect.tools import ToolCall
from recollect.trajectory import Usage
from server.routes.said import Said
from server.routes.wire_responses import Offered
from server.service import RESPONSE_PREFIX
from server.service.ids import time_of

Json = dict[str, Any]
Names = Mapping[str, Offered]
"""By the name that the model sees, how the client calls each tool that was offered."""

_CUT_BY = {"length": "max_output_tokens", "content_filter": "content_filter"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the request comes back in the response."""

    echo: Json
    names: Names


def response_of(trajectory_id: str, asked: Asked, status: str, output: Sequence[Json]) -> Json:
    """A response that has not ended."""
    created = int(time_of(trajectory_id).timestamp())
    head = {"id": RESPONSE_PREFIX + trajectory_id, "object": "response", "created_at": created, "status": status}
    return {**head, "error": None, "incomplete_details": None, "output": list(output), "usage": None, **asked.echo}


def ended(trajectory_id: str, asked: Asked, output: Sequence[Json], finish: str | None, usage: Usage, extension: Json) -> Json:
    """A response that has."""
    reason = _CUT_BY.get(finish or "")
    return {
        **response_of(trajectory_id, asked, "incomplete" if reason else "completed", output),
        "incomplete_details": {"reason": reason} if reason else None,
        "usage": _usage(usage),
        "recollect": extension,
    }


def failed(trajectory_id: str, asked: Asked, output: Sequence[Json], message: str) -> Json:
    """A response that was broken off."""
    return {**response_of(trajectory_id, asked, "failed", output), "error": {"code": "server_error", "message": message}}


def broken(output: Sequence[Json], finish: str | None) -> list[Json]:
    """The items of an answer that failed: unless it had been said to the end, the last one is not whole."""
    return [*output[:-1], {**output[-1], "status": "incomplete"}] if output and finish is None else list(output)


def item_id(kind: str, trajectory_id: str, index: int) -> str:
    """The id of an item of the output."""
    return f"{kind}_{trajectory_id}_{index}"


def text_item(id_: str, text: str | None, told: Sequence[Json] = ()) -> Json:
    """`text` None: it is only beginning."""
    content = [] if text is None else [text_part(text, told)]
    status = "in_progress" if text is None else "completed"
    return {"id": id_, "type": "message", "role": "assistant", "status": status, "content": content}


def text_part(text: str, told: Sequence[Json]) -> Json:
    """The text of a message with its log-probabilities."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": [_entry(entry) for entry in told]}


def reasoning_item(id_: str, reasoning: str | None) -> Json:
    """What was thought, as it was; `reasoning` None: it is only beginning."""
    content = [] if reasoning is None else [reasoning_part(reasoning)]
    return {"id": id_, "type": "reasoning", "summary": [], "content": content, "status": "completed" if content else "in_progress"}


def reasoning_part(reasoning: str) -> Json:
    """The text of a thought."""
    return {"type": "reasoning_text", "text": reasoning}


def call_item(id_: str, names: Names, call: ToolCall, status: str = "completed") -> Json:
    """A call as the client names the tool."""
    offered = names.get(call.name, Offered(call.name, None, custom=False))
    named = {"id": id_, "call_id": call.id, "name": offered.name, "status": status}
    if offered.namespace is not None:
        named["namespace"] = offered.namespace
    if offered.custom:
        return {"type": "custom_tool_call", **named, "input": _free_text(call.arguments)}
    return {"type": "function_call", **named, "arguments": call.arguments}


def output_of(trajectory_id: str, names: Names, said: Said, *, silent: bool = False) -> list[Json]:
    """The items of a whole answer. `silent`: where nothing was said, there is no message that is empty."""
    output = [reasoning_item(item_id("rs", trajectory_id, 0), said.reasoning)] if said.reasoning else []
    if said.text or not (said.calls or silent):
        output.append(text_item(item_id("msg", trajectory_id, len(output)), said.text, said.told))
    return output + [call_item(item_id("fc", trajectory_id, n), names, call) for n, call in enumerate(said.calls, start=len(output))]


def _entry(entry: Json) -> Json:
    return {**entry, "bytes": entry["bytes"] or []}


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
