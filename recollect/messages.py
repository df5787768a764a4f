"""Chat messages as every part speaks them: a role and plain text, and the tool calls between the turns.

Wire shapes of particular APIs (content parts, blocks, items) are turned into these at the server's edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from recollect.model import Frozen
from recollect.tools import ToolCall

Role = Literal["system", "user", "assistant", "tool"]


class Message(Frozen):
    """One chat message. `content` is the whole text of the message; where it is a file or an image instead, it is empty and `file_id`
    names the file, or `image` is a data URL. An assistant's message may hold `tool_calls`; a tool's names the call that it answers."""

    role: Role
    content: str
    file_id: str | None = Field(default=None, exclude_if=lambda value: value is None)
    image: str | None = Field(default=None, exclude_if=lambda value: value is None)
    tool_calls: tuple[ToolCall, ...] = Field(default=(), exclude_if=lambda value: not value)
    tool_call_id: str | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def is_text(self) -> bool:
        """True if it is a text and nothing besides."""
        return self.file_id is None and self.image is None and not self.tool_calls


def user(content: str) -> Message:
    """A message from the user."""
    return Message(role="user", content=content)


def assistant(content: str) -> Message:
    """A message from the assistant."""
    return Message(role="assistant", content=content)


def last_user_text(messages: Sequence[Message]) -> str:
    """The text of the last user message; empty if there is none."""
    return next((m.content for m in reversed(messages) if m.role == "user"), "")
