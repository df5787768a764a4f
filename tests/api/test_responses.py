"""`/v1/responses` with the real `openai` client: text, streaming, tools of three kinds, going on from an earlier answer, errors."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from recollect.tools import ToolCall
from server.engines.scripted import ScriptedCall, ScriptedEngine, Spoken
from tests.api import tool_calls
from tests.api.conftest import Served, serving

FUNCTION: Any = {"type": "function", "name": "weather", "description": "Tells it.", "parameters": tool_calls.SCHEMA, "strict": False}
ASKED = "How is it in Oslo and in Lima?"
EVENT = TypeAdapter[ResponseStreamEvent](ResponseStreamEvent)


@pytest.fixture
async def looking(tmp_path: Path) -> AsyncGenerator[Served]:
    async with serving(tmp_path / "home", tool_calls.engine()) as served:
        yield served


async def test_two_sessions_share_what_was_said(served: Served) -> None:
    first = await served.openai.responses.create(model="memory", instructions="Be brief.", input="My cat is called Miso.")
    assert (first.status, first.output_text) == ("completed", "My cat is called Miso.")
    assert first.usage is not None
    assert first.usage.total_tokens == first.usage.input_tokens + first.usage.output_tokens > 0
    second = await served.openai.responses.create(model="memory", input=[{"role": "user", "content": "What is my cat called?"}])
    extension = (second.model_extra or {})["recollect"]
    assert second.id == f"resp_{extension['trajectory_id']}"
    assert len(extension["memories"]) == 1
    assert "My cat is called Miso." in served.engine.calls[-1].messages[-1].content
    assert [message.role for message in served.engine.calls[0].messages] == ["system", "user"]
    feedback = await served.http.post("/v1/feedback", json={"id": second.id, "label": "up"})
    assert feedback.status_code == 200, feedback.text


async def test_a_stream_is_read_by_the_client(served: Served) -> None:
    kinds: list[str] = []
    async with served.openai.responses.stream(model="memory", input="I moved to Oslo.") as stream:
        async for event in stream:
            kinds.append(event.type)
        final = await stream.get_final_response()
    assert final.output_text == "I moved to Oslo."
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert kinds[-4:] == ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}


async def test_every_event_is_one_of_the_librarys_types_and_numbered(looking: Served) -> None:
    asked = {"model": "memory", "input": ASKED, "tools": [FUNCTION], "stream": True, "top_logprobs": 1}
    answer = await looking.http.post("/v1/responses", json=asked)
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        EVENT.validate_python(event)
    assert [event["type"] for event in events].count("response.output_item.done") == 3
    Response.model_validate(events[-1]["response"])


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_tool_loop_that_goes_on_from_the_earlier_answer(looking: Served, streaming: bool) -> None:
    async def ask(**asked: Any) -> Any:
        if not streaming:
            return await looking.openai.responses.create(model="memory", tools=[FUNCTION], **asked)
        async with looking.openai.responses.stream(model="memory", tools=[FUNCTION], **asked) as stream:
            return await stream.get_final_response()

    first = await ask(input=ASKED, instructions="Look first.")
    assert [item.type for item in first.output] == ["message", "function_call", "function_call"]
    assert first.output_text == "I look."
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.call_id, call.name, json.loads(call.arguments)) for call in calls] == [
        ("call_Oslo", "weather", {"city": "Oslo"}),
        ("call_Lima", "weather", {"city": "Lima"}),
    ]
    results: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": call.call_id} for call in calls]
    second = await ask(input=results, previous_response_id=first.id, instructions="Now tell.")
    assert second.output_text == "It is call_Oslo and call_Lima."
    told = looking.engine.calls[-1].messages
    assert [message.role for message in told] == ["system", "user", "assistant", "tool", "tool"]
    assert told[0].content == "Now tell."
    # The same, sent whole by a client that keeps the conversation itself.
    whole: Any = [{"role": "user", "content": ASKED}, *(item.model_dump(exclude_none=True) for item in first.output), *results]
    third = await ask(input=whole, instructions="Now tell.")
    assert third.output_text == second.output_text
    assert looking.engine.calls[-1].messages == told
    memories = (await looking.http.get("/v1/memories")).json()["data"]
    assert [memory["text"] for memory in memories] == [ASKED]


def _patching(call: ScriptedCall) -> str | Spoken:
    if results := [message.content for message in call.messages if message.role == "tool"]:
        return f"Done: {', '.join(results)}."
    return Spoken(
        (
            ToolCall(id="c1", name="files__read", arguments='{"path": "a.txt"}'),
            ToolCall(id="c2", name="patch", arguments='{"input": "*** Begin\\n+x"}'),
        )
    )


@pytest.mark.parametrize("streaming", [False, True])
async def test_tools_in_namespaces_and_custom_tools_are_called_as_the_client_names_them(tmp_path: Path, streaming: bool) -> None:
    read = {"type": "function", "name": "read", "parameters": {"type": "object"}}
    tools: Any = [
        {"type": "namespace", "name": "files", "description": "Files.", "tools": [read]},
        {"type": "custom", "name": "patch", "description": "Patches."},
        {"type": "web_search"},
    ]
    async with serving(tmp_path / "home", ScriptedEngine(answer=_patching)) as served:
        body = {"model": "memory", "input": "Mend it.", "tools": tools, "stream": streaming}
        answer = await served.http.post("/v1/responses", json=body)
        assert answer.headers["x-recollect-unread"] == "tools.web_search"
        if streaming:
            events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]
            for event in events:
                EVENT.validate_python(event)
            output = events[-1]["response"]["output"]
        else:
            output = Response.model_validate(answer.json()).model_dump(exclude_none=True)["output"]
        assert [(item["type"], item.get("namespace"), item["name"]) for item in output] == [
            ("function_call", "files", "read"),
            ("custom_tool_call", None, "patch"),
        ]
        assert output[1]["input"] == "*** Begin\n+x"
        results = [
            {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "read"}]},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "patched"},
        ]
        again = {"model": "memory", "input": [{"role": "user", "content": "Mend it."}, *output, *results], "tools": tools}
        second = Response.model_validate((await served.http.post("/v1/responses", json=again)).json())
        assert second.output_text == "Done: read, patched."
        called = served.engine.calls[-1].messages[1].tool_calls
        assert [(call.name, json.loads(call.arguments)) for call in called] == [
            ("files__read", {"path": "a.txt"}),
            ("patch", {"input": "*** Begin\n+x"}),
        ]
        assert [tool.name for tool in served.engine.calls[-1].tools.offered] == ["files__read", "patch"]


async def test_a_form_a_limit_and_logprobs(served: Served) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    form: Any = {"format": {"type": "json_schema", "name": "place", "schema": schema, "strict": True}}
    answer = await served.openai.responses.create(
        model="memory", input="a long turn", text=form, max_output_tokens=3, include=["message.output_text.logprobs"]
    )
    assert json.loads(served.engine.calls[-1].sampling.schema) == schema
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    part: Any = answer.output[0]
    assert [entry.token for entry in part.content[0].logprobs] == ["a", " ", "l"]


async def test_an_earlier_answer_is_found_by_its_own_namespace_alone_and_not_when_forgotten(served: Served) -> None:
    first = await served.openai.responses.create(model="memory", input="My code is 7431.", user="ada")
    again = await served.openai.responses.create(model="memory", input="And now?", user="ada", previous_response_id=first.id)
    assert again.output_text == "And now?"
    assert [message.role for message in served.engine.calls[-1].messages] == ["user", "assistant", "user"]
    with pytest.raises(openai.NotFoundError, match=r"no answer .* user/bob"):
        await served.openai.responses.create(model="memory", input="And now?", user="bob", previous_response_id=first.id)
    gone = await served.http.request("POST", "/v1/memories/forget", json={"user": "ada", "everything": True})
    assert gone.status_code == 200, gone.text
    with pytest.raises(openai.NotFoundError, match="send the whole conversation"):
        await served.openai.responses.create(model="memory", input="And now?", user="ada", previous_response_id=first.id)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no input": ({"input": None}, "input"),
    "an unknown item": ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
    "a result of no call": ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
    "a call without a name": ({"input": [{"type": "function_call", "call_id": "x"}]}, "input[0].name"),
    "a message of nobody": ({"input": [{"content": "x"}]}, "input[0].role"),
    "a part that is not read": ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0]"),
    "background": ({"background": True}, "background"),
    "a form without its schema": ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    "a tool without a name": ({"tools": [{"type": "function"}]}, "tools[0].name"),
    "a choice of no tool": ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_request_names_its_field(served: Served, name: str) -> None:
    fields, param = BAD[name]
    answer = await served.http.post("/v1/responses", json={"model": "memory", "input": "x", **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_a_stream_that_breaks_off_is_an_error_for_the_client(tmp_path: Path) -> None:
    engine = ScriptedEngine(answer=lambda _: "a long answer " * 5)
    engine.trouble.break_after = 2
    async with serving(tmp_path / "home", engine) as served:
        answer = await served.http.post("/v1/responses", json={"model": "memory", "input": "x", "stream": True})
        assert [line for line in answer.text.splitlines() if line.startswith("event: ")][-2:] == ["event: error", "event: response.failed"]
        client: AsyncOpenAI = served.openai
        with pytest.raises(openai.APIError, match="broke off"):
            async with client.responses.stream(model="memory", input="x") as stream:
                await stream.get_final_response()
