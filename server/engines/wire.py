"""Conversations and tools in the JSON that OpenAI-compatible servers take, vLLM among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recollect.messages import Message
from recollect.tools import Tools
from server.engines.base import Sampling

Json = dict[str, Any]


def messages_of(messages: Sequence[Message]) -> list[Json]:
    """The messages. Where a user's message is an image it becomes one with the user's messages around it, in parts."""
    wire: list[Json] = []
    for index, message in enumerate(messages):
        if message.role == "user" and wire and wire[-1]["role"] == "user" and (message.image or messages[index - 1].image):
            before: str | list[Json] = wire[-1]["content"]
            wire[-1]["content"] = [*([{"type": "text", "text": before}] if isinstance(before, str) else before), _part(message)]
        else:
            wire.append(_message(message))
    return wire


def tools_of(tools: Tools | None) -> Json:
    """The fields that offer tools; none if there are none."""
    if tools is None:
        return {}
    offered = [{"type": "function", "function": tool.model_dump(exclude_none=True)} for tool in tools.offered]
    chosen = {"type": "function", "function": {"name": tools.named}} if tools.choice == "function" else tools.choice
    parallel = {} if tools.parallel is None else {"parallel_tool_calls": tools.parallel}
    return {"tools": offered, "tool_choice": chosen, **parallel}


def logprobs_of(sampling: Sampling) -> Json:
    """The fields that ask for log-probabilities, with as many alternatives as the client wants."""
    return {"logprobs": True, **({"top_logprobs": sampling.top_logprobs} if sampling.top_logprobs else {})}


def _message(message: Message) -> Json:
    if message.image is not None:
        return {"role": message.role, "content": [_part(message)]}
    wire: Json = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in message.tool_calls
        ]
        wire["content"] = message.content or None
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _part(message: Message) -> Json:
    if message.image is not None:
        return {"type": "image_url", "image_url": {"url": message.image}}
    return {"type": "text", "text": message.content}
