"""The agent `rmm` served: it learns from the answers that went out, reflects when told to, and forgets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recollect.errors import EngineError, NotFound
from recollect.memory import Namespace
from server.engines.scripted import ScriptedCall, ScriptedEngine
from server.service.forget import PLACES
from tests.api.conftest import Served, serving, until

ADA = Namespace(parts=(("user", "ada"),))
HERE = {"kind": "hash"}
RMM = {"prompts": "default", "rmm": {"shown": 3, "candidates": 8, "batch": 2, "keep_every": 1}}


def _answers(call: ScriptedCall) -> str:
    asked = call.messages[-1].content
    if "<conversation>" in asked:
        return json.dumps({"extracted_memories": [{"summary": "User's locker code is 4821-kelbo.", "reference": [0]}]})
    return "Noted. [1]" if "<recollect_memories>" in asked else "Noted."


async def _add(served: Served, count: int = 8) -> None:
    for number in range(count):
        body = {"text": f"User's dog number {number} is called Timo{number}.", "id": f"m{number}", "user": "ada"}
        assert (await served.http.post("/v1/memories", json=body)).status_code in (200, 201)


async def _ask(served: Served, numbers: range) -> list[list[str]]:
    """Ask one after the other, each when the last one was learned from; returns which memories each answer was shown."""
    shown: list[list[str]] = []
    for number in numbers:
        answer = await served.ask(f"Which dog is number {number}?", model="rmm", user="ada")
        await until(lambda: len(served.service.chat.pending) == 0)
        shown.append([memory["id"] for memory in answer["recollect"]["memories"]])
    return shown


def _weights(home: Path) -> list[bytes]:
    with np.load(next((home / "rerankers" / "local").rglob("state.npz"))) as arrays:
        return [arrays[name].tobytes() for name in sorted(arrays.files)]


def _files(home: Path, name: str = "*") -> list[Path]:
    return [path for path in home.rglob(name) if path.is_file()]


def _served(home: Path, **more: object):
    return serving(home, ScriptedEngine(answer=_answers), embedder=HERE, agents={**RMM, **more})


async def test_an_answer_names_the_memories_it_was_shown_and_not_those_passed_over(tmp_path: Path) -> None:
    async with _served(tmp_path) as served:
        await _add(served)
        (shown,) = await _ask(served, range(1))
        (logged,) = await served.logged()
        ranked, answered, *_ = logged.trajectory.steps
        assert (ranked.role, len(ranked.retrieved), ranked.policy) == ("reranker", 8, None)
        assert [ref.id for ref in answered.retrieved] == shown
        assert len(shown) == 3
        assert answered.cited == shown[:1]


async def test_a_restart_of_the_server_changes_nothing_of_what_is_learned(tmp_path: Path) -> None:
    # The questions are kept as turns, whose ids are random: what is compared are weights, which their texts alone decide.
    async with _served(tmp_path / "whole") as served:
        await _add(served)
        await _ask(served, range(7))
    for begin, end in ((0, 3), (3, 7)):
        async with _served(tmp_path / "parts") as served:
            if not begin:
                await _add(served)
            await _ask(served, range(begin, end))
    assert _weights(tmp_path / "whole") == _weights(tmp_path / "parts")
    async with _served(tmp_path / "parts") as served:
        (state,) = served.service.rerankers.states("local")
        assert (state.step, state.learned, state.kept, state.frozen) == (3, 7, (1, 2, 3), False)


async def test_frozen_by_a_setting_nothing_is_learned(tmp_path: Path) -> None:
    async with _served(tmp_path, rmm={**RMM["rmm"], "learn": False}) as served:  # type: ignore[dict-item]
        await _add(served)
        await _ask(served, range(3))
    assert not _files(tmp_path, "state.npz")


async def test_a_session_is_reflected_on_and_the_log_tells_how(tmp_path: Path) -> None:
    async with _served(tmp_path) as served:
        told = {"model": "rmm", "user": "ada", "messages": [{"role": "user", "content": "My locker code is 4821-kelbo."}]}
        await served.http.post("/v1/chat/completions", json=told, headers={"X-Session-Id": "monday"})
        (topic,) = await served.service.reflecting.reflect(ADA, "monday")
        assert (topic.text, topic.tags) == ("User's locker code is 4821-kelbo.", ("topic",))
        assert await served.service.reflecting.reflect(ADA, "monday") == []
        trajectories = [item.trajectory for item in await served.logged()]
        reflection = next(t for t in trajectories if not t.request)
        assert (reflection.agent, reflection.session, reflection.namespace) == ("rmm", "monday", "user/ada")
        assert [(step.role, [op.op for op in step.memory_ops]) for step in reflection.steps] == [("extractor", ["add"])]
        assert len(trajectories) == 2
        shown = await served.ask("What is my locker code?", model="rmm", user="ada")
        assert topic.id in [memory["id"] for memory in shown["recollect"]["memories"]]
        with pytest.raises(NotFound, match="no agent 'memory' that reflects"):
            await served.service.reflecting.reflect(ADA, "monday", "memory")


async def test_a_reflection_that_fails_is_logged_with_its_reason(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine(answer=lambda _: "?"), embedder=HERE, agents=RMM) as served:
        told = {"model": "rmm", "user": "ada", "messages": [{"role": "user", "content": "I like tea."}]}
        await served.http.post("/v1/chat/completions", json=told, headers={"X-Session-Id": "monday"})
        with pytest.raises(EngineError):
            await served.service.reflecting.reflect(ADA, "monday")
        failed = [item.trajectory.error for item in await served.logged() if item.trajectory.error]
        assert len(failed) == 1
        assert failed[0].startswith("EngineError: the topics of session 'monday'")


async def test_a_forgotten_turn_takes_along_what_was_summed_up_from_it(tmp_path: Path) -> None:
    async with _served(tmp_path) as served:
        await _add(served)
        told = {"model": "rmm", "user": "ada", "messages": [{"role": "user", "content": "My locker code is 4821-kelbo."}]}
        await served.http.post("/v1/chat/completions", json=told, headers={"X-Session-Id": "monday"})
        (topic,) = await served.service.reflecting.reflect(ADA, "monday")
        await served.ask("What is my locker code?", model="rmm", user="ada")
        await until(lambda: len(served.service.chat.pending) == 0)
        turn = str(topic.metadata["turns"])
        certificate = await served.service.forgetting.memory(ADA, turn)
        assert certificate.memories == 2
        assert not _files(tmp_path, "pending.npz")
        entries = {path.relative_to(tmp_path).parts[0] for path in _files(tmp_path)}
        assert "rerankers" in entries <= set(PLACES)
    assert [path for path in _files(tmp_path) if b"kelbo" in path.read_bytes()] == []


async def test_a_forgotten_tenant_loses_what_was_learned(tmp_path: Path) -> None:
    async with _served(tmp_path) as served:
        await _add(served)
        await _ask(served, range(3))
        assert _weights(tmp_path)
        await served.service.forgetting.tenant("local")
        assert _files(tmp_path / "rerankers") == []
        await _add(served)
        await _ask(served, range(2))
        (state,) = served.service.rerankers.states("local")
        assert (state.step, state.learned) == (1, 2)


async def test_over_http_it_is_looked_at_frozen_rolled_back_and_told_to_reflect(tmp_path: Path) -> None:
    async with _served(tmp_path) as served:
        await _add(served)
        await _ask(served, range(4))
        (state,) = (await served.http.get("/v1/admin/rerankers")).json()["data"]
        assert (state["step"], state["learned"], state["kept"], state["frozen"]) == (2, 4, [1, 2], False)
        back = await served.http.post("/v1/admin/rerankers/rollback", json={"step": 1})
        assert (back.status_code, back.json()["data"][0]["step"]) == (200, 1)
        unknown = await served.http.post("/v1/admin/rerankers/rollback", json={"step": 9})
        assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "step")
        frozen = await served.http.post("/v1/admin/rerankers/freeze", json={"frozen": True})
        assert frozen.json()["data"][0]["frozen"]
        before = _weights(tmp_path)
        await _ask(served, range(4, 8))
        assert _weights(tmp_path) == before
        told = {"model": "rmm", "user": "ada", "messages": [{"role": "user", "content": "My locker code is 4821-kelbo."}]}
        await served.http.post("/v1/chat/completions", json=told, headers={"X-Session-Id": "monday"})
        reflected = await served.http.post("/v1/admin/reflect", json={"session": "monday", "user": "ada"})
        assert [memory["text"] for memory in reflected.json()["data"]] == ["User's locker code is 4821-kelbo."]
