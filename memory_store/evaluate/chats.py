"""Conversations without questions, from a CSV file of chats: Synthetic-Persona-Chat's, or any with a column of the kind."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from memory_store.evaluate.conversations import Conversation, Turn
from recollect.errors import InvalidRequest

COLUMN = "Best Generated Conversation"
_SPOKEN = re.compile(r"(User [12]): *(\S.*)")


def read_chats(path: Path) -> tuple[Conversation, ...]:
    """A conversation a row, each one session, of lines such as "User 1: Hello". Raises InvalidRequest that names the file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            records = csv.DictReader(file)
            if COLUMN not in (records.fieldnames or ()):
                raise InvalidRequest(f"{path} has no column {COLUMN!r}", param="file")
            return tuple(_chat(number, record[COLUMN] or "") for number, record in enumerate(records))
    except OSError as exc:
        raise InvalidRequest(f"{path} cannot be read: {exc.strerror}", param="file") from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise InvalidRequest(f"{path} is no CSV file: {exc}", param="file") from exc


def _chat(number: int, text: str) -> Conversation:
    spoken = [match for line in text.splitlines() if (match := _SPOKEN.match(line))]
    turns = tuple(Turn(f"T{place}", f"{match[1]}: {match[2]}", None, "session_1") for place, match in enumerate(spoken, start=1))
    return Conversation(f"chat-{number}", turns, ())
