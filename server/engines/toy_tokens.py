"""A reversible toy tokenizer and chat template for the scripted engine: one id a byte, one for each marker."""

from __future__ import annotations

import re
from collections.abc import Sequence

from recollect.messages import Message
from recollect.tools import ToolCall, Tools

START, END = "<|im_start|>", "<|im_end|>"
START_ID, END_ID = 1, 2
FIRST_BYTE = 3
_MARKERS = re.compile(f"({re.escape(START)}|{re.escape(END)})")


def encode(text: str) -> list[int]:
    """The ids of a text."""
    ids: list[int] = []
    for part in _MARKERS.split(text):
        if part in (START, END):
            ids.append(START_ID if part == START else END_ID)
        else:
            ids += [byte + FIRST_BYTE for byte in part.encode()]
    return ids


def decode(ids: Sequence[int]) -> str:
    """The text of ids; bytes that are no UTF-8 become U+FFFD."""
    markers = {START_ID: START.encode(), END_ID: END.encode()}
    return b"".join(markers.get(i) or bytes([i - FIRST_BYTE]) for i in ids).decode("utf-8", "replace")


def render(messages: Sequence[Message], tools: Tools | None = None) -> str:
    """A conversation as text, ready for an answer; before it the tools, one a line."""
    offered = "".join(f"{tool.model_dump_json()}\n" for tool in tools.offered) if tools else ""
    return offered + "".join(f"{START}{m.role}\n{_shown(m)}{END}\n" for m in messages) + f"{START}assistant\n"


def written(text: str, calls: Sequence[ToolCall]) -> str:
    """What a model would have sampled for a text and calls."""
    return text + "".join(f"<tool_call>{call.name} {call.arguments}</tool_call>" for call in calls)


def _shown(message: Message) -> str:
    return "<image>" if message.image else written(message.content, message.tool_calls)
