"""Chat messages as every part speaks them: a role and plain text.

Wire shapes of particular APIs (content parts, tool calls) are turned into these at the server's edge.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recollect.model import Frozen

Role = Literal["system", "user", "assistant", "tool"]


class Message(Frozen):
    """One chat message. `content` is the whole text of the message; where it is a file instead, it is empty and `file_id` names it."""

    role: Role
    content: str
    file_id: str | None = Field(default=None, exclude_if=lambda value: value is None)


def user(content: str) -> Message:
    """A message from the user."""
    return Message(role="user", content=content)


def assistant(content: str) -> Message:
    """A message from the assistant."""
    return Message(role="assistant", content=content)


def last_user_text(messages: list[Message]) -> str:
    """The text of the last user message; empty if there is none."""
    return next((m.content for m in reversed(messages) if m.role == "user"), "")
