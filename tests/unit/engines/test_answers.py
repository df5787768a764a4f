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


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_what_was_thought_comes_by_either_name(name: str) -> None:
    message = {"content": "a", name: "I think."}
    [chunk] = whole({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}, exact=False, n=1)
    assert (chunk.reasoning, chunk.text) == ("I think.", "a")
    deltas: list[dict[str, Any]] = [{"role": "assistant", name: ""}, {name: "I "}, {name: "think."}, {"content": "a"}]
    events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    ending = {"choices": [{"index": 0, "delta": {name: None}, "finish_reason": "stop"}]}
    chunks = [(chunk.reasoning, chunk.text) async for chunk in pieces(_events(*events, ending), exact=False, n=1)]
    assert chunks == [("I ", ""), ("think.", ""), ("", "a"), ("", "")]


def test_thoughts_of_another_form_are_left_out_and_the_answer_is_kept() -> None:
    message = {"content": "a", "reasoning": {"steps": 3}, "reasoning_content": None}
    [chunk] = whole({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}, exact=False, n=1)
    assert (chunk.reasoning, chunk.text) == ("", "a")


def test_a_thought_of_another_form_does_not_hide_one_that_is_text() -> None:
    message = {"content": "a", "reasoning_content": {"steps": 3}, "reasoning": "I think."}
    [chunk] = whole({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}, exact=False, n=1)
    assert (chunk.reasoning, chunk.text) == ("I think.", "a")
