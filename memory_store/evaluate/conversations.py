"""Conversations with questions and the turns that answer them, read from files of the LoCoMo or the LongMemEval format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, Field, ValidationError

from memory_store.plan import check
from recollect.errors import InvalidRequest
from recollect.memory import MemoryWrite

Format = Literal["LoCoMo", "LongMemEval"]
M = TypeVar("M", bound=BaseModel)
_SESSION = re.compile(r"session_([0-9]{1,9})")
_SEPARATORS = re.compile(r"[;,\s]+")


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody said, as it is stored. `id` is a memory id, unique in its conversation."""

    id: str
    text: str
    at: datetime | None
    session: str


@dataclass(frozen=True, slots=True)
class Question:
    """`evidence` are the ids of the turns that answer it; `unresolved` counts those that name no turn."""

    text: str
    category: str
    evidence: frozenset[str]
    unresolved: int


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


class _LocomoTurn(BaseModel):
    speaker: str
    dia_id: str
    text: str
    blip_caption: str = ""


class _LocomoQuestion(BaseModel):
    question: str
    category: int
    evidence: list[str] = Field(default_factory=list[str])


class _Locomo(BaseModel):
    conversation: dict[str, Any]
    qa: list[_LocomoQuestion]
    sample_id: str | int = ""


class _LongMemTurn(BaseModel):
    role: str
    content: str
    has_answer: bool = False


class _LongMem(BaseModel):
    question_id: str
    question_type: str
    question: str
    haystack_dates: list[str]
    haystack_sessions: list[list[_LongMemTurn]]


def read(path: Path) -> Corpus:
    """Read a file. Raises InvalidRequest that names the file and the field."""
    items = _items(path)
    if not items:
        raise InvalidRequest(f"{path} holds no conversation: its list is empty", param="file")
    first = items[0]
    if isinstance(first, dict) and "conversation" in first:
        found = tuple(_locomo(path, i, item) for i, item in enumerate(items))
        return Corpus("LoCoMo", found, frozenset("1234"), "1-4")
    if isinstance(first, dict) and "haystack_sessions" in first:
        found = tuple(_longmemeval(path, i, item) for i, item in enumerate(items))
        return Corpus("LongMemEval", found, frozenset(q.category for c in found for q in c.questions), "all")
    raise InvalidRequest(
        f"{path}: the first element has neither 'conversation' (LoCoMo) nor 'haystack_sessions' (LongMemEval)",
        param="0",
    )


def _items(path: Path) -> list[Any]:
    try:
        items = json.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise InvalidRequest(f"{path} cannot be read: {exc.strerror}", param="file") from exc
    except ValueError as exc:
        raise InvalidRequest(f"{path} is not JSON: {exc}", param="file") from exc
    except RecursionError as exc:
        raise InvalidRequest(f"{path} is nested too deeply to be a list of conversations", param="file") from exc
    if not isinstance(items, list):
        raise InvalidRequest(f"{path} holds {type(items).__name__}, not a list of conversations", param="file")
    return cast("list[Any]", items)


def _checked(model: type[M], value: object, path: Path, field: str) -> M:
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        first = exc.errors()[0]
        name = ".".join([field, *(str(part) for part in first["loc"])])
        raise InvalidRequest(f"{path}: {name}: {first['msg']}", param=name) from exc


def _locomo(path: Path, index: int, item: object) -> Conversation:
    sample = _checked(_Locomo, item, path, str(index))
    turns = tuple(_locomo_turns(path, index, sample.conversation))
    known = frozenset(turn.id for turn in turns)
    if len(known) < len(turns):
        raise InvalidRequest(f"{path}: {index}.conversation: a dia_id occurs twice", param=f"{index}.conversation")
    return Conversation(str(sample.sample_id) or f"conversation-{index}", turns, tuple(_locomo_question(q, known) for q in sample.qa))


def _locomo_turns(path: Path, index: int, conversation: dict[str, Any]) -> Iterator[Turn]:
    """The turns of all `session_<n>` keys; a date without a session is no session."""
    numbers = {key: int(match[1]) for key in conversation if (match := _SESSION.fullmatch(key))}
    for session in sorted(numbers, key=numbers.__getitem__):
        name = f"{index}.conversation.{session}"
        said = conversation[session]
        if not isinstance(said, list):
            raise InvalidRequest(f"{path}: {name}: a list of turns is needed", param=name)
        at = _date(str(conversation.get(f"{session}_date_time", "")), _locomo_date)
        for place, value in enumerate(cast("list[object]", said)):
            field = f"{name}.{place}"
            turn = _checked(_LocomoTurn, value, path, field)
            photo = f" (shares a photo: {turn.blip_caption})" if turn.blip_caption else ""
            found = Turn(turn.dia_id, f"{turn.speaker}: {turn.text}{photo}", at, session)
            _check_storable(found, path, id_field=f"{field}.dia_id", text_field=f"{field}.text")
            yield found


def _check_storable(turn: Turn, path: Path, *, id_field: str, text_field: str) -> None:
    """Raises InvalidRequest that names file and field, where the store would name its own."""
    try:
        check([MemoryWrite(op="add", id=turn.id, text=turn.text)])
    except InvalidRequest as exc:
        field = id_field if exc.param == "writes.0.id" else text_field
        raise InvalidRequest(f"{path}: {field}: {exc.message}", param=field) from exc


def _locomo_question(question: _LocomoQuestion, known: frozenset[str]) -> Question:
    named = {name for entry in question.evidence for name in _SEPARATORS.split(entry) if name}
    return Question(question.question, str(question.category), frozenset(named & known), len(named - known))


def _longmemeval(path: Path, index: int, item: object) -> Conversation:
    record = _checked(_LongMem, item, path, str(index))
    if len(record.haystack_dates) != len(record.haystack_sessions):
        name = f"{index}.haystack_dates"
        raise InvalidRequest(f"{path}: {name}: {len(record.haystack_sessions)} sessions need as many dates", param=name)
    turns: list[Turn] = []
    evidence: set[str] = set()
    for s, (date, session) in enumerate(zip(record.haystack_dates, record.haystack_sessions, strict=True), start=1):
        at = _date(date, _longmemeval_date)
        for t, turn in enumerate(session, start=1):
            if turn.content.strip():
                found = Turn(f"S{s}:{t}", f"{turn.role}: {turn.content}", at, f"session_{s}")
                field = f"{index}.haystack_sessions.{s - 1}.{t - 1}"
                _check_storable(found, path, id_field=field, text_field=f"{field}.content")
                turns.append(found)
                evidence |= {f"S{s}:{t}"} if turn.has_answer else set()
    question = Question(record.question, record.question_type, frozenset(evidence), 0)
    return Conversation(record.question_id, tuple(turns), (question,))


def _date(text: str, parse: Callable[[str], datetime]) -> datetime | None:
    try:
        return parse(text.strip()).replace(tzinfo=UTC)
    except ValueError:
        return None


def _locomo_date(text: str) -> datetime:
    return datetime.strptime(text, "%I:%M %p on %d %B, %Y")


def _longmemeval_date(text: str) -> datetime:
    return datetime.strptime(re.sub(r"\s*\([A-Za-z]+\)", "", text), "%Y/%m/%d %H:%M")
