"""Answers of another form than OpenAI's are the engine's error, in whole bodies and in streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from recollect.errors import EngineError
from server.engines.answers import pieces, whole

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
WRONG: list[dict[str, Any]] = [
    {"choices": [{"index": "zero", "message": "hello"}]},
    {"choices": [{"index": 0, "message": {"content": 7}, "finish_reason": "stop"}]},
    {"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": 5}]},
    {"choices": 5},
    {"choices": [7]},
    *({"choices": [{"index": 0, "message": {"tool_calls": [call]}, "finish_reason": "stop"}]} for call in (
        7, {**CALL, "id": 7}, {**CALL, "function": {"name": 5}}, {**CALL, "function": {"name": "f", "arguments": 5}},
    )),
    *({"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}], "usage": usage} for usage in (
        [1], {"prompt_tokens": 10**30}, {"prompt_tokens": -5}, {"completion_tokens": 1.5}, {"prompt_tokens": "many"},
    )),
]  # fmt: skip


async def _events(*events: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
    for event in events:
        yield event


@pytest.mark.parametrize("body", WRONG)
def test_a_whole_body(body: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        whole(body, exact=False, n=1)


@pytest.mark.parametrize("body", WRONG)
async def test_an_event_of_a_stream(body: dict[str, Any]) -> None:
    choices = body["choices"]
    if isinstance(choices, list):
        choices = [{**choice, "delta": choice["message"]} if isinstance(choice, dict) else choice for choice in choices]
    with pytest.raises(EngineError):
        async for _ in pieces(_events({**body, "choices": choices}), exact=False, n=1):
            pass


def test_arguments_that_come_as_an_object_are_taken() -> None:
    call = {**CALL, "function": {"name": "f", "arguments": {"a": 1}}}
    [chunk] = whole({"choices": [{"index": 0, "message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}, exact=False, n=1)
    assert [piece.arguments for piece in chunk.calls] == ['{"a": 1}']
