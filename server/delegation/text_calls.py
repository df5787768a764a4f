"""Calls of tools in plain text, for models that were not trained to call them: one JSON object alone is a call."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

from recollect.messages import Message, assistant, user
from recollect.tools import Tool, ToolCall

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.S)


def instructions(tools: Sequence[Tool]) -> str:
    """What the model is told of tools and of how to call one."""
    lines = [f"- {tool.name}: {tool.description} Arguments: {json.dumps(tool.parameters.get('properties', {}))}" for tool in tools]
    return (
        "You have these tools:\n" + "\n".join(lines) + "\nTo call one, answer with one JSON object and nothing else, such as "
        '{"tool": "' + tools[0].name + '", "arguments": {}}. When you know the answer, write it as plain text.'
    )


def call_in(text: str, tools: Sequence[Tool]) -> ToolCall | None:
    """The call that an answer is; None if it is an answer."""
    said = text.rpartition("</think>")[2].strip()
    fenced = _FENCED.fullmatch(said)
    try:
        found: Any = json.loads(fenced[1] if fenced else said)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    call = cast("dict[str, Any]", found)
    if not isinstance(call.get("tool"), str) or not set(call) <= {"tool", "arguments"}:
        return None
    return ToolCall(id=f"call_{uuid4().hex[:24]}", name=call["tool"], arguments=json.dumps(call.get("arguments", {})))


def plain(messages: Sequence[Message]) -> list[Message]:
    """A conversation with calls and results as texts."""
    said: list[Message] = []
    for message in messages:
        if message.role == "tool":
            said.append(user(f"Result of the tool:\n{message.content}"))
        elif message.tool_calls:
            call = message.tool_calls[0]
            said.append(assistant(f'{{"tool": {json.dumps(call.name)}, "arguments": {call.arguments}}}'))
        else:
            said.append(message)
    return said
