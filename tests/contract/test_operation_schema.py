"""The manager's schema under the grammar that vLLM decodes by: what it allows, and that what it allows can be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
import xgrammar

from server.agents.memory_r1.decision import parse, schema

ALLOWED = [
    {"op": "ADD"},
    {"op": "NOOP"},
    {"op": "UPDATE", "id": 2, "text": 'Ida\'s cat is called "Miro" — since May.\n'},
    {"op": "DELETE", "id": 1},
]
REFUSED = [{"op": "ADD", "text": "x"}, {"op": "DELETE", "id": 3}, {"op": "UPDATE", "id": 1}, {"op": "MERGE"}, {}, []]


@pytest.fixture(scope="module")
def compiler() -> Any:
    letters = xgrammar.TokenizerInfo([chr(code) for code in range(128)] + ["<end>"], stop_token_ids=[128])
    return xgrammar.GrammarCompiler(letters)


def allows(compiler: Any, num_related: int, value: object) -> bool:
    matcher = xgrammar.GrammarMatcher(compiler.compile_json_schema(schema(num_related)), terminate_without_stop_token=True)
    return matcher.accept_string(json.dumps(value, ensure_ascii=False)) and matcher.is_terminated()


@pytest.mark.parametrize("value", ALLOWED)
def test_each_operation_is_allowed_and_what_is_allowed_can_be_read(compiler: Any, value: dict[str, Any]) -> None:
    assert allows(compiler, 2, value)
    (operation,) = parse(json.dumps(value), "json", "a fact")
    assert (operation.op.upper(), operation.number, operation.well_formed) == (value["op"], value.get("id"), True)


@pytest.mark.parametrize("value", REFUSED)
def test_anything_else_is_not(compiler: Any, value: object) -> None:
    assert not allows(compiler, 2, value)


def test_without_memories_nothing_can_be_changed(compiler: Any) -> None:
    assert [allows(compiler, 0, value) for value in ALLOWED] == [True, True, False, False]
