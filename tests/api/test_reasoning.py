"""What a model thought: shown by each protocol in its own form, logged, and neither remembered nor prompted with again."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message as AnthropicMessage
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from recollect.tools import ToolCall
from recollect.trajectory import Usage
from server.engines.base import CallPiece, Chunk
from server.engines.scripted import ScriptedCall, ScriptedEngine, Spoken
from tests.api import tool_calls
from tests.api.conftest import BASE, Served, serving

THOUGHT = "Perhaps zebras."
TOOL: Any = {"type": "function", "name": "weather", "parameters": tool_calls.SCHEMA, "strict": False}
EVENT = TypeAdapter[ResponseStreamEvent](ResponseStreamEvent)
LAST: Any = {"role": "user", "content": "hello"}


def _thinking(call: ScriptedCall) -> str | Spoken:
    if call.messages[-1].content == "silence":
        return Spoken(reasoning=THOUGHT)
    calls = (ToolCall(id="c1", name="weather", arguments="{}"),) if call.tools is not None else ()
    return Spoken(calls, "It is so.", THOUGHT)


@pytest.fixture
async def thinker(tmp_path: Path) -> AsyncGenerator[Served]:
    async with serving(tmp_path / "home", ScriptedEngine(answer=_thinking)) as served:
        yield served


async def test_chat_completions_tell_it_beside_the_content(thinker: Served) -> None:
    answer = (await thinker.openai.chat.completions.create(model="memory", messages=[LAST], n=2)).choices
    assert [(c.message.content, (c.message.model_extra or {})["reasoning_content"]) for c in answer] == 2 * [("It is so.", THOUGHT)]
    thought = content = ""
    kinds: list[str] = []
    async for chunk in await thinker.openai.chat.completions.create(model="memory", messages=[LAST], stream=True):
        for choice in chunk.choices:
            more = (choice.delta.model_extra or {}).get("reasoning_content", "")
            kinds += ["thought"] if more else ["said"] if choice.delta.content else []
            thought, content = thought + more, content + (choice.delta.content or "")
    assert (thought, content) == (THOUGHT, "It is so.")
    assert kinds == sorted(kinds, reverse=True)
    assert kinds.count("thought") > 1


@pytest.mark.parametrize("model", ["memory", "rmm", "scripted", "memory-r1"])
async def test_every_agent_that_streams_its_answer_passes_it_on(thinker: Served, model: str) -> None:
    [choice] = (await thinker.openai.chat.completions.create(model=model, messages=[LAST])).choices
    assert (choice.message.model_extra or {})["reasoning_content"] == THOUGHT


async def test_responses_have_an_item_of_it_first(thinker: Served) -> None:
    answer = await thinker.openai.responses.create(model="memory", input="hello", tools=[TOOL])
    assert [item.type for item in answer.output] == ["reasoning", "message", "function_call"]
    item: Any = answer.output[0]
    assert ([part.text for part in item.content], item.summary, item.status) == ([THOUGHT], [], "completed")
    assert answer.output_text == "It is so."
    kept = await thinker.openai.responses.retrieve(answer.id)
    assert kept.to_dict() == answer.to_dict()


@pytest.mark.parametrize(("said", "types"), [("hello", ["reasoning", "message"]), ("silence", ["reasoning", "message"])])
async def test_its_events_are_those_of_the_librarys_types(thinker: Served, said: str, types: list[str]) -> None:
    told = await thinker.http.post("/v1/responses", json={"model": "memory", "input": said, "stream": True})
    events = [json.loads(line.removeprefix("data: ")) for line in told.text.splitlines() if line.startswith("data: ")]
    for event in events:
        EVENT.validate_python(event)
    kinds = [event["type"].removeprefix("response.") for event in events if event.get("item_id", "").startswith("rs_")]
    assert kinds[0] == "content_part.added"
    assert set(kinds[1:-2]) == {"reasoning_text.delta"}
    assert kinds[-2:] == ["reasoning_text.done", "content_part.done"]
    assert "".join(event["delta"] for event in events if event["type"] == "response.reasoning_text.delta") == THOUGHT
    final = Response.model_validate(events[-1]["response"])
    assert [item.type for item in final.output] == types
    places = [(event["output_index"], event["type"]) for event in events if event["type"].startswith("response.output_item")]
    assert places == [(index, f"response.output_item.{what}") for index in range(2) for what in ("added", "done")]
    async with thinker.openai.responses.stream(model="memory", input=said) as stream:
        streamed = await stream.get_final_response()
    assert [item.type for item in streamed.output] == types
    assert (await thinker.openai.responses.retrieve(final.id)).output == final.output


def _anthropic(served: Served) -> AsyncAnthropic:
    library: Any = httpx2 if issubclass(anthropic.DefaultAsyncHttpxClient, httpx2.AsyncClient) else httpx
    http = library.AsyncClient(transport=library.ASGITransport(app=served.app))
    return AsyncAnthropic(base_url=BASE, api_key="none", max_retries=0, http_client=http)


@pytest.mark.parametrize("streaming", [False, True])
async def test_messages_have_a_block_of_it_where_it_was_asked_for(thinker: Served, streaming: bool) -> None:
    async def ask(said: str = "hello", **more: Any) -> AnthropicMessage:
        asked: Any = {"model": "memory", "max_tokens": 2000, "messages": [{"role": "user", "content": said}], **more}
        async with _anthropic(thinker) as client:
            if not streaming:
                return await client.messages.create(**asked)
            async with client.messages.stream(**asked) as stream:
                return await stream.get_final_message()

    tool = {"name": "weather", "input_schema": tool_calls.SCHEMA}
    told = await ask(thinking={"type": "enabled", "budget_tokens": 1024}, tools=[tool])
    assert [block.type for block in told.content] == ["thinking", "text", "tool_use"]
    [thought] = [block.thinking for block in told.content if block.type == "thinking"]
    assert thought == THOUGHT
    assert [block.type for block in (await ask("silence", thinking={"type": "adaptive"})).content] == ["thinking", "text"]
    for unasked in (None, {"type": "disabled"}, {"type": "adaptive", "display": "omitted"}):
        assert [block.type for block in (await ask(thinking=unasked)).content] == ["text"]


async def test_it_is_logged_and_neither_remembered_nor_prompted_with_again(thinker: Served) -> None:
    first = await thinker.openai.chat.completions.create(model="memory", messages=[LAST], user="ada")
    back: Any = first.choices[0].message.to_dict()  # as clients append it, with what was thought
    assert back["reasoning_content"] == THOUGHT
    await thinker.openai.chat.completions.create(model="memory", messages=[LAST, back, {"role": "user", "content": "And?"}], user="ada")
    response = await thinker.openai.responses.create(model="memory", input="hello", user="ada")
    sent: Any = [item.to_dict() for item in response.output]
    await thinker.openai.responses.create(model="memory", input=[LAST, *sent, LAST], user="ada")
    await thinker.openai.responses.create(model="memory", input="And?", previous_response_id=response.id, user="ada")
    logged = [one.trajectory for one in await thinker.logged()]
    assert {trajectory.answer_reasoning for trajectory in logged} == {THOUGHT}
    assert all(step.reasoning == THOUGHT for trajectory in logged for step in trajectory.steps if step.role == "answerer")
    assert not any(THOUGHT in call.prompt for call in thinker.engine.calls)
    memories = (await thinker.http.get("/v1/memories", params={"namespace": "user/ada"})).json()["data"]
    assert memories
    assert not any(THOUGHT in memory["text"] for memory in memories)
    await thinker.http.request("POST", "/v1/memories/forget", json={"user": "ada", "everything": True})
    assert not any(one.trajectory.answer_reasoning or step.reasoning for one in await thinker.logged() for step in one.trajectory.steps)


async def test_forgetting_a_memory_finds_the_thoughts_that_repeat_it(tmp_path: Path) -> None:
    async with serving(tmp_path / "home", ScriptedEngine(answer=lambda _: Spoken(text="Yes.", reasoning="My code is 7431."))) as served:
        told = await served.http.post("/v1/memories", json={"text": "My code is 7431."})
        await served.openai.chat.completions.create(model="scripted", messages=[LAST])
        gone = await served.http.post("/v1/memories/forget", json={"id": told.json()["id"]})
        assert gone.json()["trajectories"] == 1


def _pieces(_: ScriptedCall) -> tuple[Chunk, ...]:
    """What was thought comes also in the middle of a call."""
    begun = CallPiece(0, "c1", "weather", '{"city"')
    rest = CallPiece(0, arguments=': "Ulm"}')
    return (
        Chunk(reasoning="I need it."),
        Chunk(calls=(begun,)),
        Chunk(reasoning=" It is"),
        Chunk(reasoning=" Ulm."),
        Chunk(calls=(rest,)),
        Chunk(finish_reason="tool_calls", usage=Usage(prompt_tokens=1, completion_tokens=1)),
    )


async def test_a_thought_amid_a_call_leaves_the_call_whole(tmp_path: Path) -> None:
    async with serving(tmp_path / "home", ScriptedEngine(answer=_pieces, exact=False)) as served:
        async with served.openai.responses.stream(model="memory", input="hello", tools=[TOOL]) as stream:
            output: Any = (await stream.get_final_response()).output
        assert [item.type for item in output] == ["reasoning", "function_call", "reasoning"]
        assert (output[1].call_id, output[1].name, output[1].arguments) == ("c1", "weather", '{"city": "Ulm"}')
        assert [part.text for item in output if item.type == "reasoning" for part in item.content] == ["I need it.", " It is Ulm."]
        asked: Any = {"model": "memory", "max_tokens": 2000, "messages": [LAST], "tools": [{"name": "weather", "input_schema": {}}]}
        async with _anthropic(served) as client, client.messages.stream(**asked, thinking={"type": "adaptive"}) as messages:
            blocks: Any = (await messages.get_final_message()).content
        assert [block.type for block in blocks] == ["thinking", "tool_use", "thinking"]
        assert (blocks[1].id, blocks[1].input) == ("c1", {"city": "Ulm"})
        assert [block.thinking for block in blocks if block.type == "thinking"] == ["I need it.", " It is Ulm."]


def _tokens(text: str) -> tuple[dict[str, Any], ...]:
    return tuple({"token": each, "logprob": -0.5, "bytes": list(each.encode()), "top_logprobs": []} for each in text)


def _one_piece(call: ScriptedCall) -> tuple[Chunk, ...]:
    """A thought with a mark behind it; an engine that streams nothing tells its tokens with the rest."""
    end = Chunk(finish_reason="stop", told=_tokens("$"), usage=Usage(prompt_tokens=1, completion_tokens=1))
    if call.stream:
        return Chunk(reasoning="no é", told=_tokens("no é")), Chunk(told=_tokens("#")), Chunk(text="é so", told=_tokens("é so")), end
    return (replace(end, reasoning="no é", text="é so", told=_tokens("no é#é so$")),)


async def test_log_probabilities_are_those_of_what_is_said(tmp_path: Path) -> None:
    async with serving(tmp_path / "home", ScriptedEngine(answer=_one_piece, exact=False)) as served:
        chat, responses = served.openai.chat.completions, served.openai.responses
        whole = (await chat.create(model="memory", messages=[LAST], logprobs=True)).choices[0].logprobs
        streamed = await chat.create(model="memory", messages=[LAST], logprobs=True, stream=True)
        pieces = [piece.logprobs async for chunk in streamed for piece in chunk.choices]
        told = [[entry.token for each in found if each is not None for entry in each.content or ()] for found in ([whole], pieces)]
        async with responses.stream(model="memory", input="hello", top_logprobs=1) as stream:
            items: Any = [(await stream.get_final_response()).output[1]]
        items.append((await responses.create(model="memory", input="hello", top_logprobs=1)).output[1])
        told += [[entry.token for entry in item.content[0].logprobs] for item in items]
        assert told == 4 * [["é", " ", "s", "o", "$"]]


async def test_a_type_of_thinking_that_is_not_known_is_refused(thinker: Served) -> None:
    asked = {"model": "memory", "max_tokens": 9, "messages": [LAST], "thinking": {"type": "off"}}
    told = await thinker.http.post("/v1/messages", json=asked)
    assert (told.status_code, told.json()["error"]["param"]) == (400, "thinking.type")


async def test_what_came_mixed_is_retrieved_as_one_thought_and_one_text(tmp_path: Path) -> None:
    said = Chunk(text="It "), Chunk(reasoning=THOUGHT), Chunk(text="is so."), Chunk(finish_reason="stop", usage=Usage())
    async with serving(tmp_path / "home", ScriptedEngine(answer=lambda _: said, exact=False)) as served:
        async with served.openai.responses.stream(model="memory", input="hello") as stream:
            streamed = await stream.get_final_response()
        kept = await served.openai.responses.retrieve(streamed.id)
        whole = await served.openai.responses.create(model="memory", input="hello")
    assert [item.type for item in streamed.output] == ["message", "reasoning", "message"]
    for answer in (kept, whole):
        assert [item.type for item in answer.output] == ["reasoning", "message"]
        assert answer.output_text == streamed.output_text == "It is so."
