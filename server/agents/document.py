"""What `reader` is given: which of the messages is the question, and the document as a stream of text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack
from typing import NamedTuple, TextIO

from recollect.errors import InvalidRequest, NotFound
from recollect.messages import Message
from server.agents.base import AgentContext

BETWEEN = "\n\n"
PIECE = 32_768
"""Characters that are read, and so held, at once."""


class Attached(NamedTuple):
    """A part of a document that lies in a file."""

    file_id: str


Part = str | Attached


class Reading(NamedTuple):
    """What is asked, and the parts of the document that it is asked of, a blank line between them; no part if there is none."""

    question: str
    document: tuple[Part, ...]


def split(messages: Sequence[Message]) -> Reading:
    """The question is the last user message; the document is every file, and what user and system messages say before the question.

    A single user message without a file holds both: after its last blank line the question, before it the document.
    Raises InvalidRequest if no user message asks anything.
    """
    asked = [i for i, m in enumerate(messages) if m.role == "user" and m.content.strip()]
    if not asked:
        raise InvalidRequest("reader needs a question: send it as the last user message, the document before it", param="messages")
    question = messages[asked[-1]].content.strip()
    parts: list[Part] = []
    for i, message in enumerate(messages):
        if message.file_id is not None:
            parts.append(Attached(message.file_id))
        elif i < asked[-1] and message.role in ("user", "system") and message.content.strip():
            parts.append(message.content)
    if len(asked) == 1 and not any(isinstance(part, Attached) for part in parts):
        head, _, question = question.rpartition(BETWEEN)
        parts += [head] if head.strip() else []
    return Reading(question.strip(), _joined(parts))


async def text_of(document: Sequence[Part], ctx: AgentContext) -> AsyncGenerator[str]:
    """The text of a document in pieces of at most PIECE characters, files as they are. Raises NotFound for an unknown file."""
    with ExitStack() as stack:
        opened = [part if isinstance(part, str) else stack.enter_context(_open(part, ctx)) for part in document]
        for number, part in enumerate(opened):
            if number:
                yield BETWEEN
            if isinstance(part, str):
                for start in range(0, len(part), PIECE):
                    yield part[start : start + PIECE]
                continue
            while piece := await asyncio.to_thread(part.read, PIECE):
                yield piece


def told(document: Sequence[Part]) -> str:
    """What of a document stands in the messages themselves: all of it, in rollouts, which have no files."""
    return BETWEEN.join(part for part in document if isinstance(part, str))


def _joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Neighbouring texts made one, without blanks around it."""
    joined: list[Part] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += BETWEEN + part
        else:
            joined.append(part)
    return tuple(part.strip() if isinstance(part, str) else part for part in joined)


def _open(part: Attached, ctx: AgentContext) -> TextIO:
    if ctx.files is None:
        raise NotFound(f"there are no files here, so no {part.file_id!r}; put the text into the messages", param="file_id")
    path = ctx.files.path(ctx.namespace.tenant, part.file_id)
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except FileNotFoundError as exc:
        raise NotFound(f"file {part.file_id!r} was deleted; upload it again", param="file_id") from exc
