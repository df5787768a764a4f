"""A session ends, by word or by silence: `rmm` reflects on it in the background, once, also across restarts and failures."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from recollect.errors import EngineUnavailable
from recollect.memory import Namespace
from server.engines.scripted import ScriptedCall, ScriptedEngine
from server.service import sessions
from tests.api.conftest import Served, serving, until

ADA = Namespace(parts=(("user", "ada"),))
TOPIC = "User's locker code is 4821-kelbo."


def answers(call: ScriptedCall) -> str:
    if "<conversation>" in call.messages[-1].content:
        return json.dumps({"extracted_memories": [{"summary": TOPIC, "reference": [0]}]})
    return "Noted."


def served(home: Path, engine: ScriptedEngine | None = None, **agents: object):
    engine = engine or ScriptedEngine(answer=answers)
    return serving(home, engine, embedder={"kind": "hash"}, agents={"prompts": "default", **agents})


async def say(running: Served, text: str, *, done: str | None = None, model: str = "rmm", **body: object) -> None:
    headers = {"X-Session-Id": "monday"} | ({"X-Session-Done": done} if done else {})
    request = {"model": model, "user": "ada", "messages": [{"role": "user", "content": text}], **body}
    answer = await running.http.post("/v1/chat/completions", json=request, headers=headers)
    assert answer.status_code == 200, answer.text


async def topics(running: Served) -> list[str]:
    found = await running.service.memories.list(ADA, limit=100)
    return [record.text for record in found if "topic" in record.tags]


def reflections(running: Served) -> int:
    return sum("<conversation>" in call.messages[-1].content for call in running.engine.calls)


async def ended(running: Served) -> None:
    await until(lambda: len(running.service.sessions) == 0)


async def test_a_session_that_is_said_to_be_done_is_reflected_on_once(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await say(running, "My locker code is 4821-kelbo.")
        assert (await running.service.status()).open_sessions == 1
        assert await topics(running) == []
        await say(running, "That is all.", done="true")
        await ended(running)
        assert await topics(running) == [TOPIC]
        assert reflections(running) == 1
        log = await running.logged()
        (reflection,) = [one.trajectory for one in log if one.trajectory.request == []]
        assert (reflection.session, reflection.agent) == ("monday", "rmm")
        await say(running, "One thing more: my dog is Tarvo.", done="1")
        await ended(running)
        assert reflections(running) == 2, "a session that goes on is reflected on again, for its new turns"
        assert "4821" not in running.engine.calls[-1].messages[-1].content.partition("<conversation>")[2]


async def test_a_session_ends_when_nothing_was_said_for_a_while(tmp_path: Path) -> None:
    async with served(tmp_path, session_idle_minutes=0.002) as running:
        await say(running, "My locker code is 4821-kelbo.")
        await ended(running)
        assert await topics(running) == [TOPIC]


async def test_a_session_that_was_open_when_the_server_stopped_ends_after_the_next_start(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await say(running, "My locker code is 4821-kelbo.")
    async with served(tmp_path, session_idle_minutes=0.0001) as running:
        await ended(running)
        assert await topics(running) == [TOPIC]
    async with served(tmp_path, session_idle_minutes=0.0001) as running:
        assert len(running.service.sessions) == 0


async def test_a_reflection_that_fails_is_tried_again_and_then_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "FIRST_WAIT_S", 0.01)
    engine = ScriptedEngine(answer=answers)
    async with served(tmp_path, engine, session_idle_minutes=0.002) as running:
        await say(running, "My locker code is 4821-kelbo.")
        engine.trouble.fail, engine.trouble.failures = EngineUnavailable("not now"), 2
        await ended(running)
        assert await topics(running) == [TOPIC]
        assert reflections(running) == 3
        engine.trouble.failures = -1
        await until(lambda: len(running.service.chat.pending) == 0)
        engine.trouble.fail = None
        await say(running, "My dog is Tarvo.")
        engine.trouble.fail = EngineUnavailable("never")
        before = reflections(running)
        await ended(running)
        assert reflections(running) - before == sessions.MAX_TRIES


async def test_what_is_forgotten_is_not_reflected_on(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await say(running, "My locker code is 4821-kelbo.")
        await running.service.forgetting.namespace(ADA)
        assert len(running.service.sessions) == 0
        assert [file for file in (tmp_path / "sessions").iterdir() if file.is_file()] == []


async def test_an_answer_does_not_wait_for_a_reflection_and_forgetting_does(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        async with running.service.reflecting.lock:  # as while a session is reflected on
            await say(running, "My locker code is 4821-kelbo.")
            forgetting = asyncio.create_task(running.service.forgetting.namespace(ADA))
            await say(running, "My dog is Tarvo.")
            assert not forgetting.done()
        assert (await forgetting).memories > 0


async def test_it_costs_the_others_nothing_and_can_be_switched_off(tmp_path: Path) -> None:
    async with served(tmp_path / "a") as running:
        await say(running, "My locker code is 4821-kelbo.", model="memory", done="true")
        await say(running, "My locker code is 4821-kelbo.", done="true", metadata={"memory": "off"})
        assert len(running.service.sessions) == 0
        assert not (tmp_path / "a" / "sessions").exists()
    async with served(tmp_path / "b", rmm={"reflect_at_end": False}) as running:
        await say(running, "My locker code is 4821-kelbo.", done="true")
        assert len(running.service.sessions) == 0


async def test_a_wrong_word_for_the_end_is_told(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        body = {"model": "rmm", "messages": [{"role": "user", "content": "hello"}]}
        answer = await running.http.post("/v1/chat/completions", json=body, headers={"X-Session-Done": "maybe"})
        assert answer.status_code == 400
        assert "X-Session-Done is 'maybe'; write true or false" in answer.json()["error"]["message"]
