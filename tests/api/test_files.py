"""Files: uploaded, listed, read by `reader`, deleted and forgotten, with OpenAI's own client."""

from __future__ import annotations

import base64
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from recollect.errors import NotFound
from recollect.memory import Namespace
from recollect.messages import Message, user
from server.engines.scripted import ScriptedCall, ScriptedEngine
from server.identity import Identity
from server.service import ChatRequest
from tests.api.conftest import Served, serving

TEXT = "The guard of Ola is Tim. " * 12 + "The code of Brinar is 417-kelbo. " + "Rain fell on the hills. " * 9
QUESTION = "What is the code of Brinar?"


def reads(call: ScriptedCall) -> str:
    """Notes the code when its section comes, else keeps the memory; answers with the memory."""
    if "\nAnswer:" in call.prompt:
        return "\\boxed{" + call.prompt.partition("Memory: ")[2].partition("\n")[0] + "}"
    return "417" if "417" in call.prompt else "none"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path / "home", ScriptedEngine(answer=reads)) as running:
        yield running


async def _ask(served: Served, content: list[dict[str, Any]], **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": content}]
    return await served.openai.chat.completions.create(model="reader", messages=messages, **more)


def _question() -> dict[str, Any]:
    return {"type": "text", "text": QUESTION}


async def test_the_openai_client_uploads_lists_reads_and_deletes(served: Served) -> None:
    client = served.openai
    first = await client.files.create(file=("tale.txt", TEXT.encode()), purpose="user_data")
    second = await client.files.create(file=("b.txt", "Grüße".encode()), purpose="assistants")
    assert (first.filename, first.bytes, first.purpose, first.status) == ("tale.txt", len(TEXT), "user_data", "processed")
    assert await client.files.retrieve(first.id) == first
    assert [file.id async for file in client.files.list()] == [second.id, first.id]
    assert [file.id async for file in client.files.list(limit=1, order="asc")] == [first.id, second.id]
    assert [file.id async for file in client.files.list(purpose="assistants")] == [second.id]
    assert (await client.files.content(second.id)).text == "Grüße"
    assert (await client.files.delete(first.id)).deleted
    assert [file.id async for file in client.files.list()] == [second.id]
    with pytest.raises(openai.NotFoundError, match="no file"):
        await client.files.retrieve(first.id)
    with pytest.raises(openai.NotFoundError, match="no file"):
        await client.files.delete(first.id)


async def test_a_file_lies_below_its_tenant_and_only_its_owner_can_read_it(served: Served) -> None:
    file = await served.openai.files.create(file=("a.txt", b"text"), purpose="user_data")
    folder = served.home / "files" / "local"
    assert sorted(path.name for path in folder.iterdir()) == [f"{file.id}.json", f"{file.id}.txt"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("named", ["part", "part after the question", "metadata", "data url", "base64"])
async def test_the_reader_reads_a_file_however_it_is_named(served: Served, named: str) -> None:
    file = await served.openai.files.create(file=("tale.txt", TEXT.encode()), purpose="user_data")
    data = base64.b64encode(TEXT.encode()).decode()
    part = {
        "data url": {"file_data": f"data:text/plain;base64,{data}", "filename": "tale.txt"},
        "base64": {"file_data": data},
    }.get(named, {"file_id": file.id})
    attached = {"type": "file", "file": part}
    content = {"metadata": [_question()], "part after the question": [_question(), attached]}.get(named, [attached, _question()])
    answer = await _ask(served, content, metadata={"document_id": file.id} if named == "metadata" else {})
    assert answer.choices[0].message.content == "\\boxed{417}"
    sections = [step for step in (await served.logged())[-1].trajectory.steps if step.role == "reader"]
    assert len(sections) == -(-len(" " + (TEXT.strip() if "file_data" in part else TEXT)) // 80)


async def test_the_log_names_the_file_and_does_not_repeat_it(served: Served) -> None:
    file = await served.openai.files.create(file=("tale.txt", TEXT.encode()), purpose="user_data")
    await _ask(served, [{"type": "file", "file": {"file_id": file.id}}, _question()])
    assert (await served.logged())[-1].trajectory.request == [Message(role="user", content="", file_id=file.id), user(QUESTION)]


async def test_an_unknown_file_is_said_before_anything_is_read(served: Served) -> None:
    part = {"type": "file", "file": {"file_id": "file-x"}}
    for content, metadata in (([part, _question()], {}), ([_question()], {"document_id": "file-x"})):
        with pytest.raises(openai.NotFoundError, match="no file 'file-x'") as caught:
            await _ask(served, content, metadata=metadata)
        assert caught.value.param == "file_id"
    assert served.engine.calls == []


async def test_a_file_of_another_tenant_does_not_exist(served: Served) -> None:
    file = await served.openai.files.create(file=("tale.txt", TEXT.encode()), purpose="user_data")
    files = served.service.files
    assert files.list("other") == []
    with pytest.raises(NotFound, match="no file"):
        files.get("other", file.id)
    with pytest.raises(NotFound, match="no file"):
        files.delete("other", file.id)
    messages = (Message(role="user", content="", file_id=file.id), user(QUESTION))
    theirs = Identity(Namespace(tenant="other"))
    with pytest.raises(NotFound, match="no file"):
        await served.service.chat.begin(ChatRequest("reader", messages, theirs, "s", attached=True))
    assert files.path("local", file.id).read_text() == TEXT
    assert served.engine.calls == []


async def test_what_reads_no_files_says_so(served: Served) -> None:
    file = await served.openai.files.create(file=("tale.txt", TEXT.encode()), purpose="user_data")
    for model in ("memory", "scripted"):
        for part in ({"file_id": file.id}, {"file_data": base64.b64encode(b"text").decode()}):
            body = {"model": model, "messages": [{"role": "user", "content": [{"type": "file", "file": part}, _question()]}]}
            answer = await served.http.post("/v1/chat/completions", json=body)
            assert answer.status_code == 400
            assert "reads no files" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({}, "needs file_id or file_data"),
        ({"file_id": "a", "file_data": "b"}, "needs file_id or file_data"),
        ({"file_data": "no base64!"}, "is not base64"),
        ({"file_data": "data:application/pdf;base64,AAAA"}, "is no text"),
        ({"file_data": base64.b64encode(b"ab\xff").decode()}, "byte 2 "),
    ],
)
async def test_a_part_that_cannot_be_read_names_its_field(served: Served, part: dict[str, str], said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said) as caught:
        await _ask(served, [{"type": "file", "file": part}, _question()])
    assert str(caught.value.param).startswith("messages[0].content[0].file")


async def test_bad_uploads_leave_nothing_behind_and_name_the_field(tmp_path: Path) -> None:
    async with serving(tmp_path, files={"max_bytes": 100_000}) as served:
        cases: list[tuple[dict[str, Any], int, str, str]] = [
            ({"files": {"file": ("a", b"a" * 70_000 + b"\xc3(")}, "data": {"purpose": "user_data"}}, 400, "file", "byte 70000 "),
            ({"files": {"file": ("a", b"a\xe2\x82")}, "data": {"purpose": "user_data"}}, 400, "file", "byte 1 "),
            ({"files": {"file": ("a", b"a" * 100_001)}, "data": {"purpose": "user_data"}}, 413, "file", "files.max_bytes"),
            ({"files": {"file": ("a", b"")}, "data": {"purpose": "user_data"}}, 400, "file", "empty"),
            ({"files": {"file": ("a", b"a")}}, 400, "purpose", "user_data or assistants"),
            ({"files": {"file": ("a", b"a")}, "data": {"purpose": "batch"}}, 400, "purpose", "'batch'"),
            ({"files": {"file": ("a", b"a")}, "data": {"purpose": "user_data", "x": "1"}}, 400, "x", "unknown field"),
            ({"files": {"other": ("a", b"a")}}, 400, "other", "unknown field"),
            ({"files": {"purpose": ("a", b"a")}}, 400, "file", "required"),
            ({"json": {"purpose": "user_data"}}, 400, "Content-Type", "multipart/form-data"),
            ({"content": b"--x\r\nbroken", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "file", "form"),
        ]
        for body, status, param, said in cases:
            answer = await served.http.post("/v1/files", **body)
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (status, param), error
            assert said in error["message"]
        assert (await served.http.post("/v1/files", files={"file": ("a", b"a" * 200_000)})).status_code == 413
        assert list((tmp_path / "files").rglob("*.*")) == []


async def test_an_upload_goes_to_the_disk_while_it_comes(served: Served) -> None:
    seen: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        for _ in range(48):
            yield b"a" * 2**20
            seen.extend(path.stat().st_size for path in (served.home / "files").glob("*/*.part"))
        yield b'\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--b--\r\n'

    answer = await served.http.post("/v1/files", content=body(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.json()["bytes"] == 48 * 2**20
    assert max(seen) >= 40 * 2**20


async def test_a_client_that_goes_away_leaves_nothing_behind(served: Served) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    coming: list[Any] = [
        {"type": "http.request", "body": head + b"a" * 2**21, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"multipart/form-data; boundary=b")]
    scope = {"type": "http", "method": "POST", "path": "/v1/files", "query_string": b"", "headers": headers}
    await served.app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert list((served.home / "files").rglob("*.*")) == []


async def test_a_killed_upload_is_swept_away_at_the_next_start_and_files_stay(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        kept = await served.openai.files.create(file=("a.txt", b"kept"), purpose="user_data")
    folder = tmp_path / "files" / "local"
    (folder / "file-1.part").write_text("half")
    (folder / "file-2.txt").write_text("not described yet")
    async with serving(tmp_path) as served:
        assert sorted(path.name for path in folder.iterdir()) == [f"{kept.id}.json", f"{kept.id}.txt"]
        assert (await served.openai.files.content(kept.id)).text == "kept"


async def test_a_reading_beyond_what_a_trajectory_keeps_is_logged_without_its_later_ids(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine(answer=reads), log={"trajectory_tokens": 600}) as served:
        file = await served.openai.files.create(file=("tale.txt", TEXT.encode()), purpose="user_data")
        answer = await _ask(served, [{"type": "file", "file": {"file_id": file.id}}, _question()])
        assert answer.choices[0].message.content == "\\boxed{417}"
        trajectory = (await served.logged())[-1].trajectory
    kept = [step.prompt_ids is not None for step in trajectory.steps]
    assert kept == sorted(kept, reverse=True)
    assert 0 < sum(kept) < len(kept)
    assert not trajectory.trainable
    assert all(step.text for step in trajectory.steps)


async def test_a_file_with_a_byte_order_mark_is_read_without_it(served: Served) -> None:
    file = await served.openai.files.create(file=("a.txt", b"\xef\xbb\xbfThe code is 417."), purpose="user_data")
    await _ask(served, [{"type": "file", "file": {"file_id": file.id}}, _question()])
    assert "Section: The code is 417.\n" in served.engine.calls[0].prompt
