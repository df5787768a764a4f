"""What goes wrong outside: the engine before and amid an answer, the disk, clients that leave, a restart of the engine."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import openai
import pytest

from recollect.errors import EmbedderError, EngineError, EngineUnavailable
from recollect.log import read_log
from server.engines.scripted import ScriptedEngine, Trouble
from tests.api.conftest import Served, serving, until
from tests.api.live import listening

ASKED: dict[str, Any] = {"model": "memory", "messages": [{"role": "user", "content": "a rather long question, in pieces"}]}


async def events_of(served: Served, **more: Any) -> list[str]:
    async with served.http.stream("POST", "/v1/chat/completions", json={**ASKED, "stream": True, **more}) as answer:
        assert answer.status_code == 200
        return [line.removeprefix("data: ") async for line in answer.aiter_lines() if line]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_is_away_is_a_503_with_retry_after_also_for_a_stream(served: Served, stream: bool) -> None:
    served.engine.trouble.fail = EngineUnavailable("the engine is being started again", retry_after_s=7)
    answer = await served.http.post("/v1/chat/completions", json={**ASKED, "stream": stream})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "7"
    assert answer.json()["error"]["code"] == "engine_unavailable"
    [logged] = await served.logged()
    assert logged.trajectory.error == "EngineUnavailable: the engine is being started again"


async def test_an_engine_error_is_a_502(served: Served) -> None:
    served.engine.trouble.fail = EngineError("the engine answered 500")
    answer = await served.http.post("/v1/chat/completions", json=ASKED)
    assert (answer.status_code, answer.json()["error"]["message"]) == (502, "the engine answered 500")


async def test_while_the_engine_starts_requests_get_503_and_ready_says_why(tmp_path: Path) -> None:
    engine = ScriptedEngine(trouble=Trouble(unhealthy="loading weights, 40 %"))
    async with serving(tmp_path / "home", engine, waits=False) as served:
        ready = await served.http.get("/ready")
        assert (ready.status_code, ready.json()["detail"]) == (503, "loading weights, 40 %")
        answer = await served.http.post("/v1/chat/completions", json=ASKED)
        assert answer.status_code == 503
        assert "loading weights, 40 %" in answer.json()["error"]["message"]
        assert int(answer.headers["retry-after"]) >= 1
        assert (await served.http.get("/health")).status_code == 200
        assert (await served.http.post("/v1/memories", json={"text": "memories go on"})).status_code == 201
        engine.trouble.unhealthy = ""
        await until(lambda: served.service.adapters.settled)
        assert (await served.http.get("/ready")).status_code == 200


async def test_an_engine_that_dies_amid_a_stream_ends_it_with_an_error_event_and_no_done(tmp_path: Path) -> None:
    async with listening(tmp_path / "home", ScriptedEngine(trouble=Trouble(break_after=3))) as served:
        events = await events_of(served)
        assert "[DONE]" not in events
        assert json.loads(events[-1])["error"]["code"] == "engine_unavailable"
        with pytest.raises(openai.APIError, match="broke off"):
            async for _ in await served.openai.chat.completions.create(**ASKED, stream=True):
                pass
        logged = await served.logged()
        assert [one.trajectory.error for one in logged] == ["EngineUnavailable: the stream broke off before its end"] * 2
        assert logged[0].trajectory.answer
        served.engine.trouble.break_after = None
        assert (await events_of(served))[-1] == "[DONE]"


async def test_a_full_disk_is_a_507_before_the_stream(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(served.home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    for stream in (False, True):
        answer = await served.http.post("/v1/chat/completions", json={**ASKED, "stream": stream})
        assert answer.status_code == 507
        assert answer.json()["error"]["code"] == "storage_full"
    assert served.engine.calls == []


async def test_a_disk_that_fills_up_amid_a_stream_is_an_error_event(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int, __: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    await served.ask("the log's segment is open")
    with monkeypatch.context() as patch:
        patch.setattr("recollect.log.os.write", full)
        events = await events_of(served)
        assert "[DONE]" not in events
        assert json.loads(events[-1])["error"]["code"] == "storage_full"
        plain = await served.http.post("/v1/chat/completions", json=ASKED)
        assert plain.status_code == 507
        feedback = await served.http.post("/v1/feedback", json={"id": plain.json().get("id", "x"), "label": "up"})
        assert feedback.status_code == 404
    assert (await events_of(served))[-1] == "[DONE]"


async def test_feedback_on_a_full_disk_is_not_acknowledged(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await served.ask("hello")
    await served.logged()

    def full(_: int, __: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("recollect.log.os.write", full)
    assert (await served.http.post("/v1/feedback", json={"id": answer["id"], "label": "up"})).status_code == 507


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_the_engine_and_is_logged(tmp_path: Path, stream: bool) -> None:
    engine = ScriptedEngine(trouble=Trouble(delay_s=0.02), answer=lambda _: "word " * 2000)
    async with listening(tmp_path / "home", engine) as served:

        async def ask() -> None:
            async with served.http.stream("POST", "/v1/chat/completions", json={**ASKED, "stream": stream}) as answer:
                async for _ in answer.aiter_lines():
                    pass

        if not stream:
            engine.trouble.hold = asyncio.Event()
        asking = asyncio.create_task(ask())
        await until(lambda: engine.in_flight == 1)
        asking.cancel()
        await until(lambda: engine.in_flight == 0)
        await until(lambda: len(read_log(tmp_path / "home" / "trajectories").trajectories) == 1)
        [logged] = await served.logged()
        assert (logged.trajectory.error or "").startswith("ClientDisconnected")
        assert (await served.http.get("/v1/memories")).json()["data"] == []


async def test_a_defect_is_told_without_what_the_user_wrote(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(call: Any) -> str:
        raise KeyError(call.prompt)

    served.engine.answer = broken
    answer = await served.http.post("/v1/chat/completions", json=ASKED)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "rather long question" not in answer.text
    assert "rather long question" not in caplog.text
    assert "KeyError" in caplog.text


async def test_a_search_that_fails_is_an_error_and_no_empty_list(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any, **__: Any) -> None:
        raise EmbedderError("the embeddings endpoint answered 500")

    store = await served.service.memories._store._store()  # pyright: ignore
    monkeypatch.setattr(store, "search", fails)
    assert (await served.http.post("/v1/memories/search", json={"query": "x"})).status_code == 502
    assert (await served.http.post("/v1/chat/completions", json=ASKED)).status_code == 502


async def test_a_memory_that_cannot_be_written_afterwards_does_not_fail_the_answer(tmp_path: Path) -> None:
    def says(call: Any) -> str:
        if "Operations:" in call.prompt:
            raise EngineUnavailable("gone")
        return "fine"

    async with serving(tmp_path / "home", ScriptedEngine(answer=says), agents={"writing": "operations"}) as served:
        answer = await served.ask("I live in Lisbon.")
        assert answer["choices"][0]["message"]["content"] == "fine"
        [logged] = await served.logged()
        assert logged.trajectory.error is None
        assert logged.trajectory.memory_seq_after == {"user/default": 0}
        assert served.service.adapters._in_flight == {}  # pyright: ignore


async def test_what_is_pending_when_the_server_ends_is_finished(tmp_path: Path) -> None:
    answered = asyncio.Event()

    def says(call: Any) -> str:
        if "Operations:" not in call.prompt:
            return "fine"
        answered.set()
        return "ADD: Ada lives in Lisbon."

    async with serving(tmp_path / "home", ScriptedEngine(answer=says), agents={"writing": "operations"}) as served:
        await served.ask("I live in Lisbon.")
        assert not answered.is_set()
    assert answered.is_set()
    [logged] = read_log(tmp_path / "home" / "trajectories", strict=True).trajectories
    assert logged.trajectory.memory_seq_after is not None
