"""The user's turns in a conversation: where the last one stands, and what was said in it."""

from __future__ import annotations

from collections.abc import Sequence

from recollect.client_notes import own_words
from recollect.messages import Message


def last_turn(conversation: Sequence[Message]) -> int | None:
    """Where the last text of the user stands that holds words of their own; None if there is none."""
    for place in range(len(conversation) - 1, -1, -1):
        if conversation[place].role == "user" and own_words(conversation[place].content).strip():
            return place
    return None


def last_words(conversation: Sequence[Message]) -> str:
    """What the user said last, also before an image that stands between; empty if nothing."""
    end = last_turn(conversation)
    if end is None:
        return ""
    begin = next((i + 1 for i in range(end, -1, -1) if conversation[i].role != "user"), 0)
    texts = [own_words(message.content) for message in conversation[begin : end + 1]]
    return "\n\n".join(text for text in texts if text.strip())


def is_continued(conversation: Sequence[Message]) -> bool:
    """True if the last turn has been answered, with a call of a tool or with words: it was remembered when it began.

    An assistant's message at the very end is no answer yet, but the beginning of one that the client wants.
    """
    place = last_turn(conversation)
    return place is not None and any(message.role in ("tool", "assistant") for message in conversation[place:-1])


def tool_rounds(conversation: Sequence[Message]) -> int:
    """How many messages with calls of tools the assistant has written since the last turn of the user."""
    place = last_turn(conversation)
    return sum(bool(message.tool_calls) for message in conversation[0 if place is None else place + 1 :])


def joined_user_turns(messages: Sequence[Message]) -> list[Message]:
    """User texts that follow each other become one: they are parts of one turn, and some chat templates refuse two."""
    joined: list[Message] = []
    for message in messages:
        if joined and message.role == joined[-1].role == "user" and message.is_text and joined[-1].is_text:
            message = Message(role="user", content=f"{joined.pop().content}\n\n{message.content}")
        joined.append(message)
    return joined
