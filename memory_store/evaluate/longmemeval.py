"""One record of the LongMemEval format (arXiv 2410.10813): sessions with an assistant, and one question."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel

from memory_store.evaluate.conversations import Conversation, Question, Turn, check_storable, date
from recollect.dataset_file import checked
from recollect.errors import InvalidRequest

_ABSTENTION = "_abs"
"""Ends the id of a question that the sessions do not answer."""
_WEEKDAY = re.compile(r"\s*\([A-Za-z]+\)")


class _LongMemTurn(BaseModel):
    role: str
    content: str
    has_answer: bool = False


class _LongMem(BaseModel):
    question_id: str
    question_type: str
    question: str
    answer: str | int | float | None = None
    question_date: str = ""
    haystack_dates: list[str]
    haystack_sessions: list[list[_LongMemTurn]]


def longmemeval(path: Path, index: int, item: object) -> Conversation:
    """The record at `index` of the file. Raises InvalidRequest that names the file and the field."""
    record = checked(_LongMem, item, path, str(index))
    if len(record.haystack_dates) != len(record.haystack_sessions):
        name = f"{index}.haystack_dates"
        raise InvalidRequest(f"{path}: {name}: {len(record.haystack_sessions)} sessions need as many dates", param=name)
    turns: list[Turn] = []
    evidence: set[str] = set()
    for s, (day, session) in enumerate(zip(record.haystack_dates, record.haystack_sessions, strict=True), start=1):
        at = _date(day)
        for t, turn in enumerate(session, start=1):
            if turn.content.strip():
                found = Turn(f"S{s}:{t}", f"{turn.role}: {turn.content}", at, f"session_{s}", turn.role)
                field = f"{index}.haystack_sessions.{s - 1}.{t - 1}"
                check_storable(found, path, id_field=field, text_field=f"{field}.content")
                turns.append(found)
                evidence |= {f"S{s}:{t}"} if turn.has_answer else set()
    answerable = not record.question_id.endswith(_ABSTENTION)
    question = Question(
        text=record.question,
        category=record.question_type,
        evidence=frozenset(evidence),
        unresolved=0,
        id=record.question_id,
        answer=None if record.answer is None or not answerable else str(record.answer),
        answerable=answerable,
        at=_date(record.question_date),
    )
    return Conversation(record.question_id, tuple(turns), (question,))


def _date(text: str) -> datetime | None:
    return date(_WEEKDAY.sub("", text), "%Y/%m/%d %H:%M")
