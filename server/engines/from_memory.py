"""The answers of `engine.kind=scripted`: no model, but what a model with memory would do, so that clients can be tried without one.

A question is answered with the line that shares most words with it: of the memories in the prompt, else of what the tool
`search_memories` finds, where one is offered. Anything else is noted, with the tool `add_memory` where one is offered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from uuid import uuid4

from recollect.client_notes import own_words
from recollect.messages import Message
from recollect.tools import ToolCall
from server.engines.scripted import ScriptedCall, Spoken

UNKNOWN = "I do not know."
NOTED = "Noted."
_OPENING = re.compile(r"<([a-z_]{0,20}memor[a-z_]{0,20})>\n")
_NUMBERED = re.compile(r"^\[\d+\] (.*)$", re.M)
_WORD = re.compile(r"[^\W_]{3,}")
_COMMON = frozenset(
    (
        *("the", "and", "are", "was", "were", "what", "which", "who", "whom", "whose", "where", "when", "why", "how", "doe", "did"),
        *("has", "have", "had", "for", "with", "from", "that", "this", "you"),
    )
)


def from_memory(call: ScriptedCall) -> str | Spoken:
    """What is said to a conversation, or to a prompt given as ids."""
    conversation = call.messages or (Message(role="user", content=call.prompt),)
    place = max((i for i, m in enumerate(conversation) if m.role == "user" and own_words(m.content).strip()), default=None)
    if place is None:
        return UNKNOWN
    shown, asked = _parted(conversation[place].content)
    told = [message.content for message in conversation[place:] if message.role == "tool"]
    if "?" not in asked:
        return NOTED if told else _with_tool(call, "add_memory", {"text": asked.strip()}) or NOTED
    if (line := _best(shown, asked)) is not None:
        return line
    if told:
        return _best([text for result in told for text in _texts(result)], asked) or UNKNOWN
    return _with_tool(call, "search_memories", {"query": asked.strip()}) or UNKNOWN


def _parted(content: str) -> tuple[list[str], str]:
    """The memories in a turn, and what was asked."""
    opening = _OPENING.search(content)
    end = -1 if opening is None else content.find(f"\n</{opening[1]}>", opening.end())
    if opening is None or end < 0:
        return [], own_words(content)
    inside, asked = content[opening.end() : end], content[end:].partition(">")[2]
    return _NUMBERED.findall(inside), own_words(asked)


def _best(lines: Sequence[str], asked: str) -> str | None:
    wanted = _words(asked)
    scored = [(len(wanted & _words(line)), line) for line in lines if _words(line) != wanted and "?" not in line]
    best = max(scored, default=(0, ""), key=lambda pair: pair[0])
    return best[1] if best[0] else None


def _words(text: str) -> frozenset[str]:
    return frozenset(word.rstrip("s") for word in _WORD.findall(text.lower())) - _COMMON


def _texts(result: str) -> list[str]:
    """The memories' texts in what `search_memories` answered, in whatever frame the client passes it on."""
    found = re.findall(r'"text"\s*:\s*("(?:[^"\\]|\\.)*")', result)
    try:
        return [json.loads(text) for text in found] or result.splitlines()
    except ValueError:
        return result.splitlines()


def _with_tool(call: ScriptedCall, name: str, arguments: dict[str, str]) -> Spoken | None:
    """A call of the tool that ends so, as clients put the server's name before it."""
    offered = call.tools.offered if call.tools is not None and call.tools.choice != "none" else ()
    tool = next((tool for tool in offered if tool.name.endswith(name)), None)
    if tool is None:
        return None
    return Spoken((ToolCall(id=f"call_{uuid4().hex[:12]}", name=tool.name, arguments=json.dumps(arguments)),))
