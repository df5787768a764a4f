"""Chat completions beyond text: tools through an agent with memory, forms of the answer, log-probabilities, images."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall, ChatCompletionMessageParam

from server.engines.scripted import ScriptedEngine
from tests.api import tool_calls
from tests.api.conftest import Served, serving

TOOLS: Any = [{"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": tool_calls.SCHEMA}}]
ASKED: ChatCompletionMessageParam = {"role": "user", "content": "How is it in Oslo and in Lima?"}


@pytest.fixture
async def looking(tmp_path: Path) -> AsyncGenerator[Served]:
    async with serving(tmp_path / "home", tool_calls.engine()) as served:
        yield served


async def test_a_tool_loop_through_an_agent_with_memory(looking: Served) -> None:
    await looking.ask("In Oslo I always wear a hat.", user="ada")
    first = await looking.openai.chat.completions.create(model="memory", messages=[ASKED], tools=TOOLS, user="ada")
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.content == "I look."
    calls = [call for call in message.tool_calls or [] if isinstance(call, ChatCompletionMessageFunctionToolCall)]
    assert [(call.id, call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("call_Oslo", "weather", {"city": "Oslo"}),
        ("call_Lima", "weather", {"city": "Lima"}),
    ]
    results: list[ChatCompletionMessageParam] = [
        {"role": "tool", "tool_call_id": call.id, "content": f"cold in {json.loads(call.function.arguments)['city']}"} for call in calls
    ]
    conversation: Any = [ASKED, message.model_dump(exclude_none=True), *results]
    second = await looking.openai.chat.completions.create(model="memory", messages=conversation, tools=TOOLS, user="ada")
    assert second.choices[0].message.content == "It is cold in Oslo and cold in Lima."
    # The model saw the memory in both calls, at the same place, and the calls and results behind it.
    asked = [call.messages for call in looking.engine.calls[1:]]
    assert "I always wear a hat" in asked[0][-1].content
    assert asked[1][0] == asked[0][0]
    assert [message.role for message in asked[1]] == ["user", "assistant", "tool", "tool"]
    assert [call.name for call in asked[1][1].tool_calls] == ["weather", "weather"]
    # The turn was remembered once, and no tool's output as the user's words.
    memories = (await looking.http.get("/v1/memories", headers={"x-memory-scope": "ada"})).json()["data"]
    assert sorted(memory["text"] for memory in memories) == ["How is it in Oslo and in Lima?", "In Oslo I always wear a hat."]
    logged = [one.trajectory for one in await looking.logged()]
    assert [(t.answer, [c.id for c in t.answer_calls], [tool.name for tool in t.tools]) for t in logged[1:]] == [
        ("I look.", ["call_Oslo", "call_Lima"], ["weather"]),
        ("It is cold in Oslo and cold in Lima.", [], ["weather"]),
    ]
    assert [call.id for call in logged[1].steps[-2].tool_calls or logged[1].steps[0].tool_calls] == ["call_Oslo", "call_Lima"]


async def test_streamed_calls_come_in_pieces_that_the_client_joins(looking: Served) -> None:
    stream = await looking.openai.chat.completions.create(model="memory", messages=[ASKED], tools=TOOLS, stream=True)
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    reasons: list[str] = []
    text = ""
    async for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
            for call in choice.delta.tool_calls or []:
                assert call.function is not None
                names.setdefault(call.index, call.function.name or "")
                arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert (text, reasons) == ("I look.", ["tool_calls"])
    assert names == {0: "weather", 1: "weather"}
    assert [json.loads(arguments[index]) for index in (0, 1)] == [{"city": "Oslo"}, {"city": "Lima"}]


async def test_the_choice_of_tools_reaches_the_engine_and_a_forced_call_is_not_trained_on(looking: Served) -> None:
    named: Any = {"type": "function", "function": {"name": "weather"}}
    await looking.openai.chat.completions.create(
        model="memory", messages=[ASKED], tools=TOOLS, tool_choice=named, parallel_tool_calls=False
    )
    asked = looking.engine.calls[-1].tools
    assert (asked.choice, asked.named, asked.parallel) == ("function", "weather", False)
    [logged] = await looking.logged()
    assert not any(step.trainable for step in logged.trajectory.steps)


async def test_the_form_of_an_answer_reaches_the_engine(served: Served) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    form: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    await served.openai.chat.completions.create(model="memory", messages=[ASKED], response_format=form)
    await served.openai.chat.completions.create(model="memory", messages=[ASKED], response_format={"type": "json_object"})
    assert [json.loads(call.sampling.schema or "null") for call in served.engine.calls] == [schema, None]
    assert [call.sampling.json_object for call in served.engine.calls] == [False, True]


async def test_logprobs_are_told_token_by_token_plain_and_streaming(served: Served) -> None:
    asked: Any = {"model": "memory", "messages": [{"role": "user", "content": "hi"}], "logprobs": True, "top_logprobs": 2}
    plain = await served.openai.chat.completions.create(**asked)
    assert plain.choices[0].logprobs is not None
    told = plain.choices[0].logprobs.content or []
    assert "".join(entry.token for entry in told) == "hi<|im_end|>"
    assert all(entry.logprob < 0 for entry in told)
    stream = await served.openai.chat.completions.create(**asked, stream=True)
    streamed = [entry async for chunk in stream for c in chunk.choices if c.logprobs for entry in c.logprobs.content or []]
    assert [entry.token for entry in streamed] == [entry.token for entry in told]


async def test_a_bias_reaches_the_engine_and_is_not_trained_on(served: Served) -> None:
    await served.openai.chat.completions.create(model="memory", messages=[ASKED], logit_bias={"7": -100})
    assert served.engine.calls[-1].sampling.logit_bias == (("7", -100.0),)
    [logged] = await served.logged()
    assert not logged.trajectory.steps[0].trainable


async def test_images_go_to_a_model_that_sees_and_are_no_memories(tmp_path: Path) -> None:
    parts: Any = [
        {"type": "text", "text": "Before"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "text", "text": "and after"},
    ]
    async with serving(tmp_path / "home", ScriptedEngine(answer=lambda _: "a cat"), sees=True) as served:
        await served.openai.chat.completions.create(model="memory", messages=[{"role": "user", "content": parts}])
        sent = served.engine.calls[-1].messages
        assert [(message.content, message.image) for message in sent] == [
            ("Before", None),
            ("", "data:image/png;base64,iVBORw0KGgo="),
            ("and after", None),
        ]
        memories = (await served.http.get("/v1/memories")).json()["data"]
        assert [memory["text"] for memory in memories] == ["Before\n\nand after"]
