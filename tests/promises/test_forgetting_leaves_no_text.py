"""Promise 5, first half: what is forgotten is in no file under the home, decoded or raw, and a certificate says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import zstandard
from lance.file import LanceFileReader

from recollect.errors import NotFound
from recollect.memory import Namespace
from recollect.tools import ToolCall
from server.engines import toy_tokens
from server.engines.scripted import ScriptedCall, ScriptedEngine, Spoken
from server.service.forget import PLACES
from tests.api.conftest import Served, serving
from tests.api.published import by_version, publish

SECRET = "My locker code is 4821-kelbo."
ADA, BOB = Namespace(parts=(("user", "ada"),)), Namespace(parts=(("user", "bob"),))
WORDS = ("kelbo", "locker")  # no digits: they occur by chance in the names of files


def readings(home: Path) -> Iterator[tuple[Path, str]]:
    """Every file under the home as text: raw, decompressed, and decoded from Lance's pages."""
    for file in sorted(path for path in home.rglob("*") if path.is_file()):
        raw = file.read_bytes()
        yield file, raw.decode(errors="replace")
        if file.suffix == ".zst":
            yield file, zstandard.ZstdDecompressor().decompressobj().decompress(raw).decode(errors="replace")
        if file.suffix == ".lance" and file.parent.name == "data":
            yield file, json.dumps(LanceFileReader(str(file)).read_all().to_table().to_pylist(), default=str)


def holding(home: Path, *words: str) -> list[str]:
    """The files in which one of the words, or its token ids of the scripted engine, can be read."""
    ids = [str(toy_tokens.encode(word))[1:-1].replace(" ", "") for word in words]
    found = ((file, text, text.replace(" ", "")) for file, text in readings(home))
    return [
        str(file.relative_to(home))
        for file, text, dense in found
        if any(word in text.lower() for word in words) or any(i in dense for i in ids)
    ]


async def _lived(served: Served) -> str:
    """Ada tells a secret and asks for it, Bob says something else. Returns the id of Ada's memory."""
    await served.ask("The weather is grey today.", user="ada")
    told = await served.http.post(
        "/v1/chat/completions",
        json={"model": "memory", "messages": [{"role": "user", "content": SECRET}], "user": "ada"},
        headers={"X-Session-Id": "monday"},
    )
    assert told.status_code == 200
    assert (await served.ask("What is my locker code?", user="ada"))["recollect"]["memories"]
    await served.ask("I like tea.", user="bob")
    await served.logged()
    listed = (await served.http.get("/v1/memories", params={"namespace": "user/ada"})).json()["data"]
    return next(memory["id"] for memory in listed if "4821" in memory["text"])


async def test_a_forgotten_memory_is_in_no_file_and_its_neighbours_stay(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine()) as served:
        memory_id = await _lived(served)
        assert {file.split("/")[0] for file in holding(tmp_path, "kelbo")} == {"memory", "trajectories"}
        certificate = await served.service.forgetting.memory(ADA, memory_id)
        assert (certificate.memories, certificate.versions, certificate.trajectories) == (1, 1, 2)
        listed = (await served.http.get("/v1/memories", params={"namespace": "user/ada"})).json()["data"]
        assert "The weather is grey today." in {memory["text"] for memory in listed}
        texts = [item.trajectory.request[-1].content for item in await served.logged()]
        assert sorted(texts) == ["", "", "I like tea.", "The weather is grey today."]
    # The question itself was stored as a memory of its own: it names the locker, not the code.
    assert holding(tmp_path, "kelbo") == []
    kept = json.loads(next((tmp_path / "forgotten").iterdir()).read_text())
    assert (kept["scope"], kept["target"], kept["namespace"]) == ("memory", memory_id, "user/ada")


async def test_a_forgotten_session_takes_its_memories_and_trajectories_along(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine()) as served:
        await _lived(served)
        certificate = await served.service.forgetting.session(ADA, "monday")
        assert certificate.memories == 1
        with pytest.raises(NotFound, match="no session"):
            await served.service.forgetting.session(ADA, "tuesday")
    assert holding(tmp_path, "kelbo") == []


async def test_a_forgotten_user_leaves_nothing_but_a_certificate_and_others_are_untouched(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine()) as served:
        await _lived(served)
        certificate = await served.service.forgetting.namespace(ADA)
        assert certificate.memories == 3
        assert await served.service.memories.list(ADA, limit=9) == []
        assert [memory.text for memory in await served.service.memories.list(BOB, limit=9)] == ["I like tea."]
        assert (await served.ask("Hello again.", user="ada"))["recollect"]["memories"] == []
    assert holding(tmp_path, *WORDS) == []
    assert not list((tmp_path / "memory" / "local").glob("*.dropped"))


async def test_a_forgotten_tenant_leaves_no_table_and_no_text(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine()) as served:
        await _lived(served)
        certificate = await served.service.forgetting.tenant("local")
        assert (certificate.memories, certificate.trajectories) == (4, 4)
    assert holding(tmp_path, *WORDS, "i like tea", "weather") == []
    assert not list((tmp_path / "memory" / "local").iterdir())


async def test_the_certificate_names_the_adapters_that_learned_from_it(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine(answer=by_version)) as served:
        memory_id = await _lived(served)
        told = next(item.trajectory.id for item in await served.logged() if item.trajectory.session == "monday")
        await publish(tmp_path, trajectory_ids=[sha256(b"another").hexdigest()], make_current=False)
        await publish(tmp_path, trajectory_ids=[sha256(told.encode()).hexdigest()], make_current=False)
        certificate = await served.service.forgetting.memory(ADA, memory_id)
        assert certificate.adapters == ("memory@v2",)


@pytest.mark.parametrize("scope", ["namespace", "tenant"])
async def test_files_are_forgotten_with_their_user_and_with_what_others_read_of_them(tmp_path: Path, scope: str) -> None:
    async with serving(tmp_path, ScriptedEngine()) as served:
        form = {"files": {"file": ("kelbo.txt", SECRET.encode())}, "data": {"purpose": "user_data"}}
        ada = (await served.http.post("/v1/files", headers={"X-Memory-Scope": "user/ada"}, **form)).json()
        form["files"] = {"file": ("tea.txt", b"I like tea.")}
        bob = (await served.http.post("/v1/files", headers={"X-Memory-Scope": "user/bob"}, **form)).json()
        await served.ask("What is it?", model="reader", user="bob", metadata={"document_id": ada["id"]})
        await served.ask("What is it?", model="reader", user="bob", metadata={"document_id": bob["id"]})
        await served.logged()
        assert {file.split("/")[0] for file in holding(tmp_path, "kelbo")} == {"files", "trajectories"}
        forgetting = served.service.forgetting
        certificate = await (forgetting.namespace(ADA) if scope == "namespace" else forgetting.tenant("local"))
        left = [bob["id"]] if scope == "namespace" else []
        assert (certificate.files, certificate.trajectories) == (2 - len(left), 2 - len(left))
        assert [file["id"] for file in (await served.http.get("/v1/files")).json()["data"]] == left
    assert holding(tmp_path, "kelbo") == []
    assert bool(holding(tmp_path, "i like tea")) == bool(left)


async def test_what_was_never_known_cannot_be_forgotten(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine()) as served:
        await _lived(served)
        with pytest.raises(NotFound, match="no memory 'mem_x'"):
            await served.service.forgetting.memory(ADA, "mem_x")


async def test_a_later_turn_that_carries_the_text_in_its_history_is_blanked_too(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine()) as served:
        memory_id = await _lived(served)
        history = [{"role": "user", "content": SECRET}, {"role": "assistant", "content": "Noted."}, {"role": "user", "content": "And tea?"}]
        asked = {"model": "memory", "user": "ada", "messages": history, "metadata": {"memory": "off"}}
        assert (await served.http.post("/v1/chat/completions", json=asked)).status_code == 200
        certificate = await served.service.forgetting.memory(ADA, memory_id)
        assert certificate.trajectories == 3
    assert holding(tmp_path, "kelbo") == []


async def test_what_stands_in_the_arguments_of_a_call_goes_with_the_memory(tmp_path: Path) -> None:
    """A model without memory is told something, and remembers it by a tool."""
    arguments = json.dumps({"text": SECRET})

    def remembers(call: ScriptedCall) -> str | Spoken:
        return "Noted." if call.messages[-1].role == "tool" else Spoken((ToolCall(id="c1", name="add_memory", arguments=arguments),))

    async with serving(tmp_path, ScriptedEngine(answer=remembers)) as served:
        memory_id = (await served.http.post("/v1/memories", json={"text": SECRET, "namespace": "user/ada"})).json()["id"]
        tools = [{"type": "function", "function": {"name": "add_memory"}}]
        said = {"role": "user", "content": "Keep in mind where I put it."}
        called = {"id": "c1", "type": "function", "function": {"name": "add_memory", "arguments": arguments}}
        conversation = [
            said,
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "c1", "content": "ok"},
        ]
        for messages in ([said], conversation):
            body = {"model": "scripted", "messages": messages, "tools": tools, "user": "ada"}
            assert (await served.http.post("/v1/chat/completions", json=body)).status_code == 200
        await served.logged()
        assert any(file.startswith("trajectories") for file in holding(tmp_path, "kelbo"))
        certificate = await served.service.forgetting.memory(ADA, memory_id)
        assert certificate.trajectories == 2
    assert holding(tmp_path, "kelbo") == []


async def test_every_entry_of_the_home_is_known_to_forgetting(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine()) as served:
        memory_id = await _lived(served)
        await served.openai.files.create(file=("a.txt", b"text"), purpose="user_data")
        await served.service.forgetting.memory(ADA, memory_id)
        entries = {file.relative_to(tmp_path).parts[0] for file, _ in readings(tmp_path)}
    assert {"memory", "trajectories", "files", "forgotten"} <= entries <= set(PLACES)


async def test_forgetting_over_http_needs_one_target_and_answers_with_the_certificate(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine()) as served:
        memory_id = await _lived(served)
        for body, param in (
            ({}, "id"),
            ({"id": memory_id, "everything": True, "namespace": "user/ada"}, "id"),
            ({"everything": True}, "namespace"),
            ({"id": memory_id, "scope": "all"}, "scope"),
        ):
            refused = await served.http.post("/v1/memories/forget", json=body)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
        unknown = await served.http.post("/v1/memories/forget", json={"id": "mem_x", "user": "ada"})
        assert unknown.status_code == 404
        answer = await served.http.post("/v1/memories/forget", json={"id": memory_id, "user": "ada"})
        assert (answer.status_code, answer.json()["scope"], answer.json()["memories"]) == (200, "memory", 1)
        everything = await served.http.post("/v1/memories/forget", json={"everything": True, "namespace": "user/ada"})
        assert everything.json()["scope"] == "namespace"
    assert holding(tmp_path, *WORDS) == []
