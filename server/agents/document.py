"""Tells the question from the document in the messages that `reader` is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from recollect.errors import InvalidRequest
from recollect.messages import Message


class Reading(NamedTuple):
    """What is asked, and the text that it is asked of (empty if there is none)."""

    question: str
    document: str


def split(messages: Sequence[Message]) -> Reading:
    """The question is the last user message, the document what user and system messages say before it, a blank line between.

    A single user message holds both: after its last blank line the question, before it the document.
    Raises InvalidRequest if no user message asks anything.
    """
    asked = [i for i, m in enumerate(messages) if m.role == "user" and m.content.strip()]
    if not asked:
        raise InvalidRequest("reader needs a question: send it as the last user message, the document before it", param="messages")
    question = messages[asked[-1]].content.strip()
    before = [m.content for m in messages[: asked[-1]] if m.role in ("user", "system") and m.content.strip()]
    if len(asked) == 1:
        head, _, question = question.rpartition("\n\n")
        before += [head] if head.strip() else []
    return Reading(question.strip(), "\n\n".join(before).strip())
