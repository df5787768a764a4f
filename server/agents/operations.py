"""Reads memory operations from what the policy wrote: lines such as `UPDATE 2 text`, or a JSON object with a list of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, cast

from recollect.memory import MAX_TEXT
from server.agents.prompts import Prompt

Op = Literal["add", "update", "delete", "noop"]
_LINE = re.compile(
    r"(?:(?P<add>ADD)|(?P<update>UPDATE)\s+(?P<u>\d{1,4})|(?P<delete>DELETE)\s+(?P<d>\d{1,4})|(?P<noop>NOOP))(?:\s+(?P<text>\S.*))?"
)

_LIST = re.compile(r"\{\s*\"|\[\s*[{\]]")
MAX_ATTEMPTS = 20
"""How many places of a text are tried as the beginning of the list: a text of brackets must not cost its length squared."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What the policy asked for. `number` counts the related memories from 1. One that is not `well_formed` is kept as text."""

    op: Op
    number: int | None = None
    text: str = ""
    well_formed: bool = True


def parse(text: str, form: str) -> list[Operation]:
    """The operations in a completion, written in the prompt's `format`. Never raises; what cannot be read is ill-formed.

    What was thought before the answer is passed over.
    """
    answer = text.rpartition("</think>")[2].strip()
    return _parse_json(answer) if form == "json" else _parse_lines(answer)


def _parse_lines(text: str) -> list[Operation]:
    return [_parse_line(line.strip()) for line in text.splitlines() if line.strip()]


def _parse_line(line: str) -> Operation:
    match = _LINE.fullmatch(line)
    if match is None:
        return _ill_formed(line)
    said = (match["text"] or "").strip()
    op = cast(Op, next(name for name in ("add", "update", "delete", "noop") if match[name]))
    return _checked(op, match["u"] or match["d"], said, line)


def _parse_json(text: str) -> list[Operation]:
    found = _first_list(text)
    if found is None:
        return [_ill_formed(text)] if text else []
    return [_parse_item(item) for item in found]


def _parse_item(item: Any) -> Operation:
    raw = json.dumps(item, ensure_ascii=False)
    raw = raw if _is_unicode(raw) else json.dumps(item)
    if not isinstance(item, dict):
        return _ill_formed(raw)
    fields = cast("dict[str, Any]", item)
    op, number, said = str(fields.get("op", "")).lower(), fields.get("id"), fields.get("text", "")
    if op not in ("add", "update", "delete", "noop") or not isinstance(said, str | None):
        return _ill_formed(raw)
    return _checked(op, None if op in ("add", "noop") else str(number), (said or "").strip(), raw)


def _checked(op: Op, number: str | None, said: str, raw: str) -> Operation:
    """An operation with exactly the parts that its kind has, else an ill-formed one."""
    if number is not None and not re.fullmatch(r"[0-9]{1,4}", number):
        return _ill_formed(raw)
    if op in ("add", "update") and not (0 < len(said) <= MAX_TEXT and _is_unicode(said)):
        return _ill_formed(raw)
    if op in ("delete", "noop") and said:
        return _ill_formed(raw)
    return Operation(op, None if number is None else int(number), said)


def _first_list(text: str) -> list[Any] | None:
    """The first JSON list of operations in a text: `{"operations": [...]}` or a bare list, whatever stands around it."""
    decoder = json.JSONDecoder()
    for start in islice(_LIST.finditer(text), MAX_ATTEMPTS):
        try:
            value, _ = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            value = cast("dict[str, Any]", value).get("operations")
        if isinstance(value, list):
            return cast("list[Any]", value)
    return None


def _is_unicode(text: str) -> bool:
    """False for half of a surrogate pair, which JSON can spell and no file can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _ill_formed(raw: str) -> Operation:
    return Operation("noop", text=raw[:MAX_TEXT], well_formed=False)


def max_tokens(prompt: Prompt) -> int:
    """How much the policy may write: a few lines, or an object that names every change."""
    return 1024 if prompt.format == "json" else 128
