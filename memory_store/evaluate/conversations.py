"""Conversations with questions and the turns that answer them, whichever file they were read from (files.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from memory_store.plan import check
from recollect.errors import InvalidRequest
from recollect.memory import MemoryWrite, Provenance

Format = Literal["LoCoMo", "LongMemEval"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody said, as it is stored. `id` is a memory id, unique in its conversation; `text` begins with the speaker."""

    id: str
    text: str
    at: datetime | None
    session: str
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """`evidence` are the ids of the turns that answer it; `unresolved` counts those that name no turn.

    `answer` is the file's; None if the conversation does not hold one, and an agent should say so.
    """

    text: str
    category: str
    evidence: frozenset[str]
    unresolved: int
    id: str = ""
    answer: str | None = None
    answerable: bool = True
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns in order, and the questions about them."""

    name: str
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """A file of conversations. `overall` are the categories that are also reported together."""

    format: Format
    conversations: tuple[Conversation, ...]
    overall: frozenset[str]
    overall_name: str


def writes(turns: Sequence[Turn], *, context: bool = True) -> list[MemoryWrite]:
    """The turns as episodic memories of their ids; without `context` they are turns of no session."""
    return [
        MemoryWrite(
            op="add",
            id=turn.id,
            text=turn.text,
            kind="episodic",
            valid_at=turn.at,
            provenance=Provenance(channel="import", session=turn.session if context else None),
        )
        for turn in turns
    ]


def check_storable(turn: Turn, path: Path, *, id_field: str, text_field: str) -> None:
    """Raises InvalidRequest that names file and field, where the store would name its own."""
    try:
        check([MemoryWrite(op="add", id=turn.id, text=turn.text)])
    except InvalidRequest as exc:
        field = id_field if exc.param == "writes.0.id" else text_field
        raise InvalidRequest(f"{path}: {field}: {exc.message}", param=field) from exc


def date(text: str, pattern: str) -> datetime | None:
    """A file's date, in UTC as the files name no zone; None if it is not of the pattern."""
    try:
        return datetime.strptime(text.strip(), pattern).replace(tzinfo=UTC)
    except ValueError:
        return None
