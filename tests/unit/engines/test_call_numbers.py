"""Pieces of tool calls in the streams of servers that number them well, badly or not at all."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from server.engines.answers import pieces
from server.engines.base import collect

NAMED = {"name": "f", "arguments": '{"a":'}


async def _events(*deltas: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
    for delta in deltas:
        yield {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}


def _call(index: int | None, call_id: str | None, **function: str) -> dict[str, Any]:
    return {"tool_calls": [{**({} if index is None else {"index": index}), **({"id": call_id} if call_id else {}), "function": function}]}


@pytest.mark.parametrize(
    "deltas",
    [
        (_call(0, "x", **NAMED), _call(0, None, arguments="1}"), _call(1, "y", **NAMED), _call(1, None, arguments="2}")),
        (_call(0, "x", **NAMED), _call(1, "y", **NAMED), _call(0, None, arguments="1}"), _call(1, None, arguments="2}")),
        (_call(0, "x", **NAMED), _call(0, "x", arguments="1}"), _call(0, "y", **NAMED), _call(0, "y", arguments="2}")),
        (_call(None, "x", **NAMED), _call(None, None, arguments="1}"), _call(None, "y", **NAMED), _call(None, None, arguments="2}")),
    ],
)
async def test_each_piece_goes_to_its_call(deltas: tuple[dict[str, Any], ...]) -> None:
    [choice] = await collect(pieces(_events(*deltas), exact=False, n=1))
    assert [(call.id, call.name, call.arguments) for call in choice.calls] == [("x", "f", '{"a":1}'), ("y", "f", '{"a":2}')]


async def test_a_call_without_an_id_gets_one() -> None:
    [choice] = await collect(pieces(_events(_call(0, None, name="f", arguments="{}")), exact=False, n=1))
    assert choice.calls[0].id.startswith("call_")
