"""What a review found: damage on the disk, the same words twice at once, a server that is stopped while it streams."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from recollect.errors import RecollectError
from server.engines.scripted import ScriptedEngine, Trouble
from tests.api.conftest import serving, until
from tests.api.live import listening
from tests.api.published import by_version, publish

ASKED: dict[str, Any] = {"model": "memory", "messages": [{"role": "user", "content": "a rather long question, in pieces"}]}


async def test_a_pointer_that_is_no_text_stops_neither_the_watcher_nor_the_way_to_mend_it(tmp_path: Path) -> None:
    await publish(tmp_path)
    engine = ScriptedEngine(answer=by_version)
    async with serving(tmp_path, engine) as served:
        (tmp_path / "adapters" / "local" / "memory" / "current").write_bytes(b"\xff")
        await served.service.adapters.refresh()
        assert (await served.http.get("/ready")).status_code == 200
        assert (await served.http.get("/v1/admin/adapters")).status_code == 200
        engine.trouble.unhealthy = "away"
        await until(lambda: not served.service.adapters.settled)
        engine.trouble.unhealthy = ""
        await until(lambda: served.service.adapters.settled)
        answer = await served.http.post("/v1/admin/adapters/promote", json={"policy": "memory", "version": 1})
        assert answer.status_code == 200, answer.text


async def test_nothing_is_promoted_unchecked_while_the_engine_is_away(tmp_path: Path) -> None:
    await publish(tmp_path)
    await publish(tmp_path)
    engine = ScriptedEngine(answer=by_version)
    async with serving(tmp_path, engine) as served:
        engine.trouble.unhealthy = "starting again"
        await until(lambda: not served.service.adapters.settled)
        answer = await served.http.post("/v1/admin/adapters/promote", json={"policy": "memory", "version": 1})
        assert answer.status_code == 503
        assert "starting again" in answer.json()["error"]["message"]
        assert (tmp_path / "adapters" / "local" / "memory" / "current").read_text() == "v2\n"


async def test_a_policy_that_nobody_published_cannot_be_promoted_to_the_base(tmp_path: Path) -> None:
    await publish(tmp_path)
    async with serving(tmp_path) as served:
        answer = await served.http.post("/v1/admin/adapters/promote", json={"policy": "memroy", "version": None})
        assert answer.status_code == 404
        assert "published: memory" in answer.json()["error"]["message"]
        assert not (tmp_path / "adapters" / "local" / "memroy").exists()


async def test_a_server_closes_all_its_parts_even_if_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> None:
        raise RecollectError("cannot be closed")

    async def served_and_ended() -> None:
        async with serving(tmp_path) as served:
            await served.ask("hello")
            monkeypatch.setattr(served.service.adapters, "close", broken)

    with pytest.raises(RecollectError, match="cannot be closed"):
        await served_and_ended()
    assert list((tmp_path / "trajectories").glob("*.zst")), "the open segment was not closed"


async def test_the_same_words_said_at_once_are_remembered_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await asyncio.gather(*(served.ask("My dog is Tarvo.", user="ada") for _ in range(12)))
        listed = (await served.http.get("/v1/memories", params={"namespace": "user/ada"})).json()["data"]
        assert [memory["text"] for memory in listed] == ["My dog is Tarvo."]


async def test_a_turn_with_memory_off_is_logged_as_such(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.ask("My dog is Tarvo.", metadata={"memory": "off"})
        await served.ask("My dog is Tarvo.")
        assert [item.trajectory.use_memory for item in await served.logged()] == [False, True]


async def test_feedback_on_an_id_of_an_impossible_time_is_unknown(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answer = await served.http.post("/v1/feedback", json={"id": "f" * 32, "label": "up"})
        assert answer.status_code == 404


async def test_a_damaged_segment_hides_no_other_trajectory(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        first = (await served.ask("hello"))["recollect"]["trajectory_id"]
    [good] = (tmp_path / "trajectories").glob("*.zst")
    start = good.name.partition("-")[0]
    (good.parent / f"{start}-999999.jsonl.zst").write_bytes(b"no zstandard at all")
    async with serving(tmp_path) as served:
        answer = await served.http.post("/v1/feedback", json={"id": first, "label": "up"})
        assert answer.status_code == 200, answer.text
        unknown = await served.http.post("/v1/feedback", json={"id": first[:12] + "0" * 20, "label": "up"})
        assert unknown.status_code == 404


async def test_a_stream_that_outlasts_the_server_ends_with_an_error_event(tmp_path: Path) -> None:
    engine = ScriptedEngine(trouble=Trouble(delay_s=0.05))
    async with listening(tmp_path, engine) as served:
        async with served.http.stream("POST", "/v1/chat/completions", json={**ASKED, "stream": True}) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            served.service.chat.stop()
            rest = [json.loads(line.removeprefix("data: ")) async for line in lines if line.startswith("data: {")]
        assert "the server was stopped" in rest[-1]["error"]["message"]
        [logged] = await served.logged()
        assert logged.trajectory.error == "EngineUnavailable: the server was stopped before the end of the answer; ask again"


async def test_memories_are_their_owners_alone_in_a_home_that_is_open_to_others(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    async with serving(home) as served:
        assert (await served.http.post("/v1/memories", json={"text": "The canary sings."})).status_code == 201
        assert {entry.name for entry in home.iterdir() if entry.is_dir() and entry.stat().st_mode & 0o077} == set()
