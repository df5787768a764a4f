"""The one operation that the manager chooses for a fact: the schema that it is decoded under, and how it is read without one."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, cast

from recollect.memory import MAX_TEXT
from server.agents import operations
from server.agents.operations import MAX_ATTEMPTS, Operation

MAX_TOKENS = {"json": 512, "lines": 128}


@cache
def schema(num_related: int) -> str:
    """The JSON schema of one operation where `num_related` memories were shown: only their numbers can be named."""
    numbers = list(range(1, num_related + 1))
    text = {"type": "string"}  # no minLength: under it xgrammar allows no escaped character, so no quotation mark
    shapes: list[dict[str, Any]] = [_shape("ADD"), _shape("NOOP")]
    if numbers:
        shapes += [_shape("UPDATE", id={"enum": numbers}, text=text), _shape("DELETE", id={"enum": numbers})]
    return json.dumps({"anyOf": shapes})


def _shape(op: str, **fields: Any) -> dict[str, Any]:
    properties = {"op": {"const": op}, **fields}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def parse(text: str, form: str, fact: str) -> list[Operation]:
    """The operation in a completion, written in the prompt's `format`, as a list of one; an ADD is of the fact as it was extracted.

    Never raises. One operation belongs to a fact: what follows the first is kept as ill-formed, so that it can be counted.
    A completion that says nothing is one ill-formed operation.
    """
    answer = text.rpartition("</think>")[2].strip()
    found = _parse_json(answer) if form == "json" else _parse_lines(answer)
    first, *rest = found or [_ill_formed("")]
    if first.op == "add":
        first = Operation("add", None, fact)
    return [first, *(_ill_formed(operation.text or operation.op) for operation in rest)]


def _parse_lines(answer: str) -> list[Operation]:
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    return [Operation("add") if line == "ADD" else operations.parse(line, "lines")[0] for line in lines]


def _parse_json(answer: str) -> list[Operation]:
    """Every object with an `op`, alone or in a list, whatever stands around it; a text without one is ill-formed."""
    decoder, found, position = json.JSONDecoder(), list[Operation](), 0
    for _ in range(MAX_ATTEMPTS):
        start = answer.find("{", position)
        if start < 0:
            break
        position = start + 1
        try:
            value, end = decoder.raw_decode(answer, start)
        except (ValueError, RecursionError):
            continue
        listed = value.get("operations")
        items = cast("list[Any]", listed) if isinstance(listed, list) else [value] if "op" in value else []
        found += [_parse_item(item) for item in items]
        position = end if items else position
    return found or ([_ill_formed(answer)] if answer else [])


def _parse_item(item: Any) -> Operation:
    raw = json.dumps(item)
    if not isinstance(item, dict):
        return _ill_formed(raw)
    fields = cast("dict[str, Any]", item)
    if str(fields.get("op")).upper() == "ADD" and set(fields) <= {"op", "text"}:
        return Operation("add")
    return operations.parse(f"[{raw}]", "json")[0]


def _ill_formed(raw: str) -> Operation:
    return Operation("noop", text=raw[:MAX_TEXT], well_formed=False)
