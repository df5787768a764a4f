"""`/v1/responses/{id}` with the real `openai` client: what was answered is asked for again, listed, deleted, and kept apart."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, NotFoundError
from openai.types.responses import Response, ResponseItem
from pydantic import TypeAdapter

from recollect.keys import KeyRing
from recollect.tools import ToolCall
from recollect.trajectory import Usage
from server.engines.base import CallPiece, Chunk
from server.engines.scripted import ScriptedCall, ScriptedEngine, Spoken, Trouble
from tests.api import tool_calls
from tests.api.conftest import BASE, Served, serving

FUNCTION: Any = {"type": "function", "name": "weather", "parameters": tool_calls.SCHEMA, "strict": False}
CUSTOM: Any = {"type": "custom", "name": "patch", "description": "Patches."}
READING: Any = {"type": "function", "name": "read", "parameters": {"type": "object"}}
READ: Any = {"type": "namespace", "name": "files", "description": "Files.", "tools": [READING]}
ITEM = TypeAdapter[ResponseItem](ResponseItem)


def _calling(call: ScriptedCall) -> str | Spoken:
    if any(message.role == "tool" for message in call.messages):
        return "Done."
    calls = ToolCall(id="c1", name="files__read", arguments="{}"), ToolCall(id="c2", name="patch", arguments='{"input": "+x"}')
    return Spoken(calls, "I look.")


@pytest.mark.parametrize("streaming", [False, True])
async def test_what_is_retrieved_is_what_was_answered_also_after_a_restart(tmp_path: Path, streaming: bool) -> None:
    asked: Any = {
        "model": "memory",
        "instructions": "Be brief.",
        "input": "Mend it.",
        "tools": [READ, CUSTOM],
        "metadata": {"topic": "mending"},
        "temperature": 0.5,
    }
    async with serving(tmp_path / "home", ScriptedEngine(answer=_calling)) as served:
        client = served.openai
        await client.responses.create(model="memory", input="Mend it with care.")  # a memory to recall
        told = await served.http.post("/v1/responses", json={**asked, "stream": streaming})
        whole = json.loads(told.text.strip().rsplit("data: ", 1)[-1])["response"] if streaming else told.json()
        answered = Response.model_validate(whole)
        assert (await served.http.get(f"/v1/responses/{answered.id}")).json() == whole
        retrieved = await client.responses.retrieve(answered.id)
        assert [item.type for item in retrieved.output] == ["message", "function_call", "custom_tool_call"]
        assert (retrieved.instructions, retrieved.metadata) == ("Be brief.", {"topic": "mending"})
        extension = (retrieved.model_extra or {})["recollect"]
        assert extension["memories"]
        assert extension["spent"]
    async with serving(tmp_path / "home") as served:
        assert (await served.openai.responses.retrieve(answered.id)).to_dict() == retrieved.to_dict()


async def test_one_that_was_cut_and_one_that_failed_say_so(tmp_path: Path) -> None:
    engine = ScriptedEngine(answer=lambda _: "a long answer")
    async with serving(tmp_path / "home", engine) as served:
        cut = await served.openai.responses.create(model="memory", input="Speak.", max_output_tokens=3)
        retrieved = await served.openai.responses.retrieve(cut.id)
        assert (retrieved.status, retrieved.output_text) == ("incomplete", "a l")
        assert retrieved.to_dict() == cut.to_dict()
        engine.trouble.break_after = 1
        told = (await served.http.post("/v1/responses", json={"model": "memory", "input": "Speak.", "stream": True})).text
        created = json.loads(told.splitlines()[1].removeprefix("data: "))["response"]
        broken = await served.openai.responses.retrieve(created["id"])
        assert (broken.status, broken.created_at) == ("failed", created["created_at"])
        assert broken.error is not None
        assert "broke off" in broken.error.message


async def test_input_items_are_the_conversation_by_pages(tmp_path: Path) -> None:
    async with serving(tmp_path / "home", ScriptedEngine(answer=_calling)) as served:
        client = served.openai
        first = await client.responses.create(model="memory", input="Mend it.", instructions="Look first.", tools=[READ, CUSTOM])
        results: Any = [
            {"type": "function_call_output", "call_id": "c1", "output": "read"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "patched"},
        ]
        last = await client.responses.create(model="memory", input=results, previous_response_id=first.id, tools=[READ, CUSTOM])
        listed = [item async for item in client.responses.input_items.list(last.id, order="asc", limit=2)]
        for item in listed:
            ITEM.validate_python(item.to_dict())
        assert [item.type for item in listed] == [
            *("message", "message", "function_call", "custom_tool_call"),
            *("function_call_output", "custom_tool_call_output"),
        ]
        found: Any = listed
        assert [part.text for item in found[:2] for part in item.content] == ["Mend it.", "I look."]
        assert (found[2].namespace, found[2].name, found[3].input, found[4].output) == ("files", "read", "+x", "read")
        assert len({item.id for item in found}) == 6
        newest_first = [item.id async for item in client.responses.input_items.list(last.id, limit=4)]
        assert newest_first == [item.id for item in reversed(found)]
        with pytest.raises(openai.BadRequestError, match="has no item 'msg_x'"):
            await client.responses.input_items.list(last.id, after="msg_x")


async def test_an_image_and_a_file_are_listed_as_they_were_sent(tmp_path: Path) -> None:
    async with serving(tmp_path / "home", sees=True) as served:
        image = "data:image/png;base64,iVBORw0KGgo="
        content: Any = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": image, "detail": "auto"}]
        answered = await served.openai.responses.create(model="memory", input=[{"role": "user", "content": content}])
        listed: Any = (await served.openai.responses.input_items.list(answered.id, order="asc")).data
        assert [ITEM.validate_python(item.to_dict()).type for item in listed] == ["message", "message"]
        assert (listed[0].content[0].text, listed[1].content[0].image_url) == ("What is it?", image)


async def test_a_deleted_one_is_gone_for_every_use_and_its_memories_stay(tmp_path: Path) -> None:
    async with serving(tmp_path / "home") as served:
        client = served.openai
        kept = await client.responses.create(model="memory", input="My cat is called Miso.")
        gone = await client.responses.create(model="memory", input="My dog is called Rex.")
        told = await served.http.delete(f"/v1/responses/{gone.id}")
        assert told.json() == {"id": gone.id, "object": "response", "deleted": True}
    async with serving(tmp_path / "home") as served:
        client = served.openai
        for looking in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
            with pytest.raises(NotFoundError, match="no response"):
                await looking(gone.id)
        with pytest.raises(NotFoundError, match="send the whole conversation"):
            await client.responses.create(model="memory", input="And?", previous_response_id=gone.id)
        assert (await client.responses.create(model="memory", input="And?", previous_response_id=kept.id)).output_text == "And?"
        await client.responses.delete(kept.id)
        texts = {memory["text"] for memory in (await served.http.get("/v1/memories")).json()["data"]}
        assert {"My cat is called Miso.", "My dog is called Rex."} <= texts
        assert {kept.id, gone.id} <= {f"resp_{one.trajectory.id}" for one in await served.logged()}
        feedback = await served.http.post("/v1/feedback", json={"id": gone.id, "label": "up"})
        assert feedback.status_code == 200


async def test_what_was_not_to_be_stored_or_came_another_way_is_not_found(served: Served) -> None:
    told = await served.openai.responses.create(model="memory", input="My code is 7431.", store=False)
    for looking in (served.openai.responses.retrieve, served.openai.responses.delete):
        with pytest.raises(NotFoundError):
            await looking(told.id)
    with pytest.raises(NotFoundError):
        await served.openai.responses.create(model="memory", input="And?", previous_response_id=told.id)
    unstored = await served.ask("My code is 7431.", store=False)
    with pytest.raises(NotFoundError):
        await served.openai.responses.create(model="memory", input="And?", previous_response_id=unstored["id"])
    chat = await served.ask("hello")
    assert (await served.openai.responses.create(model="memory", input="And?", previous_response_id=chat["id"])).output_text == "And?"
    for strange in (chat["id"], f"resp_{'0' * 32}", "resp_nothing"):
        with pytest.raises(NotFoundError):
            await served.openai.responses.retrieve(strange)


async def test_namespaces_and_what_is_forgotten(served: Served) -> None:
    ada = await served.openai.responses.create(model="memory", input="My code is 7431.", user="ada", metadata={"code": "7431 it is"})
    for whose in ({}, {"user": "bob"}, {"namespace": "user/bob"}):
        with pytest.raises(NotFoundError):
            await served.openai.responses.retrieve(ada.id, extra_query=whose)
        with pytest.raises(NotFoundError):
            await served.openai.responses.delete(ada.id, extra_query=whose)
    scoped = {"x-memory-scope": "user/ada"}
    assert (await served.openai.responses.retrieve(ada.id, extra_query={"user": "ada"})).output_text == "My code is 7431."
    assert (await served.openai.responses.retrieve(ada.id, extra_headers=scoped)).id == ada.id
    assert (await served.http.get(f"/ns/user/ada/v1/responses/{ada.id}")).status_code == 200
    wrong = await served.http.get(f"/v1/responses/{ada.id}", params={"stream": "true"}, headers=scoped)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "stream")
    await served.http.request("POST", "/v1/memories/forget", json={"user": "ada", "everything": True})
    with pytest.raises(NotFoundError):
        await served.openai.responses.retrieve(ada.id, extra_headers=scoped)


async def test_another_tenants_key_and_a_key_without_the_scope(served: Served) -> None:
    ring = KeyRing(served.home / "keys")

    def client(name: str, **how: Any) -> AsyncOpenAI:
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=served.app))
        return AsyncOpenAI(base_url=f"{BASE}/v1", api_key=ring.create(name, **how)[1], max_retries=0, http_client=http)

    ours, theirs = client("ours", tenant="acme"), client("theirs", tenant="other")
    told = await ours.responses.create(model="memory", input="My code is 7431.")
    for looking in (theirs.responses.retrieve, theirs.responses.delete, theirs.responses.input_items.list):
        with pytest.raises(NotFoundError):
            await looking(told.id)
    with pytest.raises(openai.PermissionDeniedError, match="it needs the scope 'chat'"):
        await client("memories", tenant="acme", scopes=["memory"]).responses.retrieve(told.id)
    assert (await ours.responses.retrieve(told.id)).output_text == "My code is 7431."


BEGUN = Chunk(calls=(CallPiece(0, "c1", "weather", '{"city"'),))
END = Chunk(finish_reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=1))


@pytest.mark.parametrize(
    ("said", "items"),
    [
        ((Chunk(reasoning="Perhaps"),), [("reasoning", "incomplete")]),
        ((Chunk(reasoning="Perhaps"), Chunk(text="It")), [("reasoning", "completed"), ("message", "incomplete")]),
        ((Chunk(text="I look."), BEGUN), [("message", "completed"), ("function_call", "incomplete")]),
    ],
)
async def test_one_that_broke_off_is_retrieved_with_what_had_come_of_it(
    tmp_path: Path, said: tuple[Chunk, ...], items: list[tuple[str, str]]
) -> None:
    engine = ScriptedEngine(answer=lambda _: (*said, END), exact=False, trouble=Trouble(break_after=len(said)))
    async with serving(tmp_path / "home", engine) as served:
        body = {"model": "memory", "input": "Speak.", "stream": True, "tools": [FUNCTION]}
        told = json.loads((await served.http.post("/v1/responses", json=body)).text.strip().rsplit("data: ", 1)[-1])["response"]
        assert [(item["type"], item["status"]) for item in told["output"]] == items
        assert told["error"]["message"].startswith("the stream broke off")
        Response.model_validate(told)
        assert (await served.http.get(f"/v1/responses/{told['id']}")).json() == told


async def test_a_defect_is_retrieved_as_it_was_told(tmp_path: Path) -> None:
    def defect(_: ScriptedCall) -> str:
        raise KeyError("secret")

    async with serving(tmp_path / "home", ScriptedEngine(answer=defect)) as served:
        told = await served.http.post("/v1/responses", json={"model": "memory", "input": "Speak."})
        [logged] = await served.logged()
        kept = (await served.http.get(f"/v1/responses/resp_{logged.trajectory.id}")).json()
        assert (kept["status"], kept["output"], kept["error"]["message"]) == ("failed", [], told.json()["error"]["message"])


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_filtered_one_and_empty_instructions_come_back(tmp_path: Path, streaming: bool) -> None:
    said = Chunk(text="I can"), replace(END, finish_reason="content_filter")
    async with serving(tmp_path / "home", ScriptedEngine(answer=lambda _: said, exact=False)) as served:
        body = {"model": "memory", "input": "Speak.", "stream": streaming, "instructions": ""}
        told = json.loads((await served.http.post("/v1/responses", json=body)).text.strip().rsplit("data: ", 1)[-1])
        told = told["response"] if streaming else told
        assert (told["status"], told["incomplete_details"], told["instructions"]) == ("incomplete", {"reason": "content_filter"}, "")
        assert (await served.http.get(f"/v1/responses/{told['id']}")).json() == told


async def test_only_the_id_of_a_response_is_taken_and_a_long_one_is_not_repeated(served: Served) -> None:
    told = await served.openai.responses.create(model="memory", input="My code is 7431.")
    bare = told.id.removeprefix("resp_")
    for strange in (bare, f"chatcmpl-{bare}", f"msg_{bare}", f"resp_msg_{bare}"):
        for method in ("GET", "DELETE"):
            assert (await served.http.request(method, f"/v1/responses/{strange}")).status_code == 404
    assert (await served.openai.responses.retrieve(told.id)).id == told.id
    long = await served.http.get(f"/v1/responses/resp_{'x' * 5000}")
    assert long.status_code == 404
    assert len(long.json()["error"]["message"]) < 200


async def test_a_deletion_is_synced_before_it_is_answered(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    told = await served.openai.responses.create(model="memory", input="My code is 7431.")
    synced: list[Path] = []
    fsync = os.fsync

    def recorded(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())
        fsync(fd)

    monkeypatch.setattr(os, "fsync", recorded)
    await served.openai.responses.delete(told.id)
    [marker] = (served.home / "responses").glob("*/*")
    assert marker.name == told.id.removeprefix("resp_")
    wanted = (marker.with_name(f".{marker.name}.tmp"), marker.parent, marker.parent.parent, served.home)
    assert {path.resolve() for path in wanted} <= set(synced)


@pytest.mark.parametrize("sent", [False, True])
async def test_calls_are_listed_by_the_clients_names_also_where_the_tools_are_offered_no_more(tmp_path: Path, sent: bool) -> None:
    results: Any = [
        {"type": "function_call_output", "call_id": "c1", "output": "read"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "patched"},
    ]
    async with serving(tmp_path / "home", ScriptedEngine(answer=_calling)) as served:
        client = served.openai
        first = await client.responses.create(model="memory", input="Mend it.", tools=[READ, CUSTOM])
        if sent:  # the client sends the whole conversation itself
            before: Any = [{"role": "user", "content": "Mend it."}, *(item.to_dict() for item in first.output)]
            second = await client.responses.create(model="memory", input=[*before, *results])
        else:
            second = await client.responses.create(model="memory", input=results, previous_response_id=first.id)
        last = await client.responses.create(model="memory", input="And?", previous_response_id=second.id)
        assert (await client.responses.retrieve(last.id)).to_dict() == last.to_dict()
    async with serving(tmp_path / "home") as served:
        found: Any = (await served.openai.responses.input_items.list(last.id, order="asc")).data
        assert [item.type for item in found] == [
            *("message", "message", "function_call", "custom_tool_call"),
            *("function_call_output", "custom_tool_call_output", "message", "message"),
        ]
        assert (found[2].namespace, found[2].name, found[3].name, found[3].input) == ("files", "read", "patch", "+x")
