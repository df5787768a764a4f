"""Chat completions with the real `openai` client: plain, streaming, and what is remembered and logged."""

from __future__ import annotations

import json
from typing import Any

from openai.types.chat import ChatCompletionChunk

from server.engines.scripted import ScriptedCall, ScriptedEngine
from tests.api.conftest import Served, serving


async def streamed(served: Served, text: str, **more: Any) -> list[ChatCompletionChunk]:
    stream = await served.openai.chat.completions.create(model="memory", messages=[{"role": "user", "content": text}], stream=True, **more)
    return [chunk async for chunk in stream]


async def test_a_plain_answer_has_the_shape_that_the_openai_client_reads(served: Served) -> None:
    answer = await served.openai.chat.completions.create(model="memory", messages=[{"role": "user", "content": "I live in Lisbon."}])
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == "I live in Lisbon."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    extension = (answer.model_extra or {})["recollect"]
    assert answer.id == f"chatcmpl-{extension['trajectory_id']}"
    assert extension["policies"] == {"memory": "scripted"}
    [logged] = await served.logged()
    assert logged.trajectory.id == extension["trajectory_id"]
    assert logged.trajectory.answer == "I live in Lisbon."
    assert logged.trajectory.memory_seq_before == {"user/default": 0}
    assert logged.trajectory.memory_seq_after == {"user/default": 1}
    assert logged.trajectory.steps[0].trainable


async def test_a_stream_gives_the_same_text_in_pieces_and_the_extension_on_its_last_chunk(served: Served) -> None:
    chunks = await streamed(served, "I have a dog called Rex.")
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "I have a dog called Rex."
    assert len(chunks) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "stop"]
    assert [("recollect" in (chunk.model_extra or {})) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_stream_ends_with_usage_if_asked(served: Served) -> None:
    chunks = await streamed(served, "hello", stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert "recollect" in (chunks[-1].model_extra or {})


async def test_the_end_of_a_stream_comes_after_the_memory_and_the_trajectory(served: Served) -> None:
    async with served.http.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": "memory", "messages": [{"role": "user", "content": "I moved to Oslo."}], "stream": True},
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in answer.aiter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    last = json.loads(lines[-2].removeprefix("data: "))
    assert answer.headers["x-recollect-trajectory"] == last["recollect"]["trajectory_id"]
    assert answer.headers["x-recollect-policy"] == "scripted"
    listed = (await served.http.get("/v1/memories")).json()["data"]
    assert [(memory["text"], memory["kind"], memory["provenance"]["trajectory_id"]) for memory in listed] == [
        ("I moved to Oslo.", "episodic", last["recollect"]["trajectory_id"])
    ]


async def test_several_choices_are_told_apart(tmp_path: Any) -> None:
    engine = ScriptedEngine(answer=lambda call: f"answer {call.choice}")
    async with serving(tmp_path / "home", engine) as served:
        answer = await served.openai.chat.completions.create(
            model="memory", messages=[{"role": "user", "content": "x"}], n=3, temperature=0.7
        )
        assert [(choice.index, choice.message.content) for choice in answer.choices] == [(i, f"answer {i}") for i in range(3)]
        texts: dict[int, str] = {}
        ends: list[int] = []
        for chunk in await streamed(served, "y", n=2, temperature=0.7):
            for choice in chunk.choices:
                texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
                ends += [choice.index] if choice.finish_reason else []
        assert texts == {0: "answer 0", 1: "answer 1"}
        assert ends == [0, 1]


async def test_sampling_fields_reach_the_engine(served: Served) -> None:
    await served.openai.chat.completions.create(
        model="memory",
        messages=[{"role": "user", "content": "x"}],
        temperature=0.5,
        top_p=0.9,
        max_completion_tokens=7,
        seed=3,
        stop=["END"],
        presence_penalty=0.1,
        frequency_penalty=-0.2,
    )
    sampling = served.engine.calls[-1].sampling
    assert sampling.fields() == {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "seed": 3,
        "stop": ["END"],
        "presence_penalty": 0.1,
        "frequency_penalty": -0.2,
    }


async def test_what_was_said_in_one_session_is_recalled_in_another(served: Served) -> None:
    await served.ask("My sister's birthday is on 3 June.", user="ada")
    answer = await served.ask("When is my sister's birthday?", user="ada")
    [memory] = answer["recollect"]["memories"]
    assert memory["score"] > 0
    assert "3 June" in served.engine.calls[-1].prompt
    found = (await served.http.get(f"/v1/memories/{memory['id']}", params={"namespace": "user/ada"})).json()
    assert found["text"] == "My sister's birthday is on 3 June."
    stranger = await served.ask("When is my sister's birthday?", user="ben")
    assert stranger["recollect"]["memories"] == []


async def test_memory_off_neither_reads_nor_writes(served: Served) -> None:
    await served.ask("I keep bees in Turin.")
    for more in ({"metadata": {"memory": "off"}}, {}):
        headers = {} if more else {"X-Memory": "off"}
        body = {"model": "memory", "messages": [{"role": "user", "content": "Where do I keep bees, in Turin?"}], **more}
        answer = (await served.http.post("/v1/chat/completions", json=body, headers=headers)).json()
        assert answer["recollect"]["memories"] == []
    assert len((await served.http.get("/v1/memories")).json()["data"]) == 1


async def test_the_base_model_answers_without_memory(served: Served) -> None:
    answer = await served.ask("I live in Rome.", model="scripted")
    assert answer["choices"][0]["message"]["content"] == "I live in Rome."
    assert answer["recollect"]["policies"] == {"base": "scripted"}
    assert (await served.http.get("/v1/memories")).json()["data"] == []
    [logged] = await served.logged()
    assert logged.trajectory.agent == "scripted"


async def test_the_reader_takes_the_last_text_part_as_its_question(tmp_path: Any) -> None:
    def says(call: ScriptedCall) -> str:
        return r"\boxed{Lisbon}" if call.prompt.rstrip().endswith("Answer:") else "Ada lives in Lisbon."

    async with serving(tmp_path / "home", ScriptedEngine(answer=says)) as served:
        answer = await served.openai.chat.completions.create(
            model="reader",
            messages=[
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Ada moved to Lisbon. " * 40}, {"type": "text", "text": "Where does Ada live?"}],
                }
            ],
        )
        assert "Lisbon" in (answer.choices[0].message.content or "")
        [logged] = await served.logged()
        assert [message.content[:5] for message in logged.trajectory.request] == ["Ada m", "Where"]
        assert {step.role for step in logged.trajectory.steps} == {"reader", "reader_answer"}


async def test_models_lists_the_agents_first(served: Served) -> None:
    models = [model.id async for model in served.openai.models.list()]
    assert models == ["memory", "memory-r1", "reader", "rmm", "scripted"]
    assert (await served.openai.models.retrieve("reader")).id == "reader"


async def test_the_session_is_named_or_follows_from_the_first_turns(served: Served) -> None:
    first = [{"role": "user", "content": "hello"}]
    later = [*first, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "how are you?"}]
    for messages in (first, later):
        await served.ask("", messages=messages)
    await served.ask("hello", metadata={"session_id": "s-2"})
    await served.http.post("/v1/chat/completions", json={"model": "memory", "messages": first}, headers={"X-Session-Id": "s-3"})
    sessions = [logged.trajectory.session for logged in await served.logged()]
    assert sessions[0] == sessions[1]
    assert sessions[2:] == ["s-2", "s-3"]


async def test_an_operations_agent_writes_after_the_answer_and_a_later_request_waits_for_it(tmp_path: Any) -> None:
    def says(call: ScriptedCall) -> str:
        return "ADD: Ada lives in Lisbon." if "Operations:" in call.prompt else "fine"

    async with serving(tmp_path / "home", ScriptedEngine(answer=says), agents={"writing": "operations"}) as served:
        await served.ask("I live in Lisbon.", user="ada")
        listed = (await served.http.get("/v1/memories", params={"namespace": "ada"})).json()["data"]
        [logged] = await served.logged()
        roles = [step.role for step in logged.trajectory.steps]
        assert roles[0] == "answerer"
        assert "updater" in roles[1:]
        assert logged.trajectory.memory_seq_after == {"user/ada": len(listed)}
