"""The one operation that the manager chooses for a fact: the schema that it is decoded under, and how it is read without one."""

from __future__ import annotations

import json
from functools import cache
from itertools import islice
from typing import Any, cast

from recollect.memory import MAX_TEXT
from server.agents import operations
from server.agents.operations import MAX_ATTEMPTS, Operation

MAX_TOKENS = {"json": 512, "lines": 128}


@cache
def schema(num_related: int) -> str:
    """The JSON schema of one operation where `num_related` memories were shown: only their numbers can be named."""
    numbers = list(range(1, num_related + 1))
    text = {"type": "string", "minLength": 1}
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
    """The first object with an `op`, whatever stands around it; else what `operations` makes of the text (a list, or nothing)."""
    decoder = json.JSONDecoder()
    starts = (position for position, letter in enumerate(answer) if letter == "{")
    for start in islice(starts, MAX_ATTEMPTS):
        try:
            value, _ = decoder.raw_decode(answer, start)
        except (ValueError, RecursionError):
            continue
        fields = cast("dict[str, Any]", value)
        if isinstance(fields.get("operations"), list):
            break
        if "op" in fields:
            return [_parse_item(fields)]
    return operations.parse(answer, "json")


def _parse_item(fields: dict[str, Any]) -> Operation:
    if str(fields["op"]).upper() == "ADD" and set(fields) <= {"op", "text"}:
        return Operation("add")
    return operations.parse(json.dumps([fields]), "json")[0]


def _ill_formed(raw: str) -> Operation:
    return Operation("noop", text=raw[:MAX_TEXT], well_formed=False)
