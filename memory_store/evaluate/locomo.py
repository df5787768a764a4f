"""One conversation of the LoCoMo format (arXiv 2402.17753)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, Field

from memory_store.evaluate.conversations import Conversation, Question, Turn, check_storable, date
from recollect.dataset_file import checked
from recollect.errors import InvalidRequest

ADVERSARIAL = 5
"""The category of questions that the conversation does not answer; the file gives the answer that tempts."""
_SESSION = re.compile(r"session_([0-9]{1,9})")
_SEPARATORS = re.compile(r"[;,\s]+")
_DATE = "%I:%M %p on %d %B, %Y"


class _LocomoTurn(BaseModel):
    speaker: str
    dia_id: str
    text: str
    blip_caption: str = ""


class _LocomoQuestion(BaseModel):
    question: str
    category: int
    answer: str | int | float | None = None
    evidence: list[str] = Field(default_factory=list[str])


class _Locomo(BaseModel):
    conversation: dict[str, Any]
    qa: list[_LocomoQuestion]
    sample_id: str | int = ""


def locomo(path: Path, index: int, item: object) -> Conversation:
    """The conversation at `index` of the file. Raises InvalidRequest that names the file and the field."""
    sample = checked(_Locomo, item, path, str(index))
    turns = tuple(_turns(path, index, sample.conversation))
    known = frozenset(turn.id for turn in turns)
    if len(known) < len(turns):
        raise InvalidRequest(f"{path}: {index}.conversation: a dia_id occurs twice", param=f"{index}.conversation")
    name = str(sample.sample_id) or f"conversation-{index}"
    return Conversation(name, turns, tuple(_question(f"{name}-{number}", q, known) for number, q in enumerate(sample.qa)))


def _turns(path: Path, index: int, conversation: dict[str, Any]) -> Iterator[Turn]:
    """The turns of all `session_<n>` keys; a date without a session is no session."""
    numbers = {key: int(match[1]) for key in conversation if (match := _SESSION.fullmatch(key))}
    for session in sorted(numbers, key=numbers.__getitem__):
        name = f"{index}.conversation.{session}"
        said = conversation[session]
        if not isinstance(said, list):
            raise InvalidRequest(f"{path}: {name}: a list of turns is needed", param=name)
        at = date(str(conversation.get(f"{session}_date_time", "")), _DATE)
        for place, value in enumerate(cast("list[object]", said)):
            field = f"{name}.{place}"
            turn = checked(_LocomoTurn, value, path, field)
            photo = f" (shares a photo: {turn.blip_caption})" if turn.blip_caption else ""
            found = Turn(turn.dia_id, f"{turn.speaker}: {turn.text}{photo}", at, session, turn.speaker)
            check_storable(found, path, id_field=f"{field}.dia_id", text_field=f"{field}.text")
            yield found


def _question(id: str, question: _LocomoQuestion, known: frozenset[str]) -> Question:
    named = {name for entry in question.evidence for name in _SEPARATORS.split(entry) if name}
    answerable = question.category != ADVERSARIAL
    return Question(
        text=question.question,
        category=str(question.category),
        evidence=frozenset(named & known),
        unresolved=len(named - known),
        id=id,
        answer=None if question.answer is None or not answerable else str(question.answer),
        answerable=answerable,
    )
