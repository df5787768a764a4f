"""The engine's rests: nothing is asked of it, clients are told when to come again, and it comes back by itself."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from recollect.errors import ConfigurationError, EngineError
from recollect.keys import KeyRing, Scope
from recollect.settings import EngineSettings
from server.engines.choose import open_fallback
from server.engines.scripted import ScriptedEngine, Trouble
from server.engines.vllm import VllmEngine
from tests.api.conftest import Served, serving, until
from tests.api.live import listening
from tests.api.process import upstream
from tests.api.published import by_version, publish
from tests.unit.engines.engine_stub import Stub
from tests.unit.engines.engine_stub import serving as stub_serving

REST, WAKE, STATE = "/v1/admin/engine/rest", "/v1/admin/engine/wake", "/v1/admin/engine"
CALLERS: tuple[tuple[str, str, tuple[Scope, ...]], ...] = (
    ("chats", "local", ("chat",)),
    ("other", "acme", ("admin",)),
    ("admin", "local", ("admin",)),
)
QUESTION = {"model": "memory", "messages": [{"role": "user", "content": "hello"}]}


def restful(**more: Any) -> ScriptedEngine:
    return ScriptedEngine(rests="stop", **more)


async def rest(served: Served, **body: Any) -> Any:
    return await served.http.post(REST, json={"lease_s": 600, **body})


async def test_while_it_rests_requests_are_told_when_to_come_again_and_after_it_are_answered(tmp_path: Path) -> None:
    await publish(tmp_path)
    async with serving(tmp_path, restful(answer=by_version)) as served:
        lain = await rest(served, reason="training")
        assert lain.status_code == 200
        assert (lain.json()["phase"], lain.json()["mode"], lain.json()["reason"]) == ("resting", "stop", "training")
        assert served.engine.resting
        calls = len(served.engine.calls)
        for path, body in (
            ("/v1/chat/completions", QUESTION),
            ("/v1/responses", {"model": "memory", "input": "hello"}),
            ("/v1/messages", {**QUESTION, "max_tokens": 8}),
            ("/v1/chat/completions", {**QUESTION, "model": "scripted"}),
        ):
            refused = await served.http.post(path, json=body)
            assert refused.status_code == 503
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert "the engine rests (training)" in refused.json()["error"]["message"]
        assert len(served.engine.calls) == calls
        ready = await served.http.get("/ready")
        assert ready.status_code == 503
        assert ready.headers["retry-after"] == refused.headers["retry-after"]
        assert ready.json()["rest"]["phase"] == "resting"
        assert 590 < ready.json()["rest"]["left_s"] <= 600
        assert 'recollect_engine_resting{reason="training"} 1.0' in (await served.http.get("/metrics")).text
        # The versions are loaded and compared with their fingerprints again before anything is answered.
        served.engine.adapters.clear()
        woken = await served.http.post(WAKE)
        assert woken.json() == {"phase": "awake", "mode": "stop", "reason": None, "since_s": None, "left_s": None, "retry_after_s": None}
        assert len(served.engine.calls) == calls + 8
        assert (await served.ask("hello"))["recollect"]["policies"] == {"memory": "memory@v1"}
        assert 'recollect_engine_resting{reason="training"} 0.0' in (await served.http.get("/metrics")).text
        assert (await served.http.get("/ready")).status_code == 200


async def test_memories_are_served_while_the_engine_rests(tmp_path: Path) -> None:
    async with serving(tmp_path, restful()) as served:
        await rest(served)
        added = await served.http.post("/v1/memories", json={"text": "Ada lives in Lisbon."})
        assert added.status_code < 300
        assert (await served.http.get("/health")).status_code == 200


async def test_answers_in_progress_end_before_the_rest_begins(tmp_path: Path) -> None:
    async with listening(tmp_path, restful()) as served:
        served.engine.trouble.hold = asyncio.Event()
        asked = asyncio.create_task(served.ask("hello"))
        await until(lambda: served.engine.in_flight == 1)
        resting = asyncio.create_task(rest(served, drain_s=600))
        await until(lambda: served.service.resting.state.phase == "draining" and not served.service.adapters.settled)
        refused = await served.http.post("/v1/chat/completions", json=QUESTION)
        assert (refused.status_code, served.engine.resting) == (503, False)
        served.engine.trouble.hold.set()
        assert (await asked)["choices"][0]["message"]["content"]
        assert (await resting).json()["phase"] == "resting"
        assert served.engine.in_flight == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_takes_longer_is_ended_with_an_error(tmp_path: Path, stream: bool) -> None:
    async with listening(tmp_path, restful(trouble=Trouble(break_after=None))) as served:
        served.engine.trouble.hold = asyncio.Event()
        asked = asyncio.create_task(served.http.post("/v1/chat/completions", json={**QUESTION, "stream": stream}))
        await until(lambda: served.engine.in_flight == 1)
        assert (await rest(served, drain_s=0)).json()["phase"] == "resting"
        answer = await asked
        assert answer.status_code == 503
        assert "the engine rests" in answer.text
        [logged] = await served.logged()
        assert logged.trajectory.error is not None
        assert "EngineUnavailable" in logged.trajectory.error


async def test_a_rest_that_nobody_makes_longer_ends_by_itself(tmp_path: Path) -> None:
    async with serving(tmp_path, restful()) as served:
        await rest(served, lease_s=0.05)
        await until(lambda: served.service.resting.state.phase == "awake")
        assert not served.engine.resting
        assert await served.ask("hello")


async def test_the_newest_request_says_how_long_a_rest_lasts(tmp_path: Path) -> None:
    async with serving(tmp_path, restful()) as served:
        await rest(served, lease_s=600)
        longer = await rest(served, lease_s=3000)
        assert 2990 < longer.json()["left_s"] <= 3000
        assert (await rest(served, lease_s=0.05)).json()["left_s"] <= 0.05
        await until(lambda: served.service.resting.state.phase == "awake")


async def test_two_rests_at_once_are_one(tmp_path: Path) -> None:
    class Counting(ScriptedEngine):
        rested = 0

        async def rest(self) -> None:
            assert not self.resting
            type(self).rested += 1
            await super().rest()

    async with serving(tmp_path, Counting(rests="stop")) as served:
        found = await asyncio.gather(*(rest(served) for _ in range(3)))
        assert [one.json()["phase"] for one in found] == ["resting"] * 3
        assert Counting.rested == 1
        await asyncio.gather(*(served.http.post(WAKE) for _ in range(3)))
        assert await served.ask("hello")


async def test_an_engine_that_is_starting_rests_too(tmp_path: Path) -> None:
    async with serving(tmp_path, restful(trouble=Trouble(unhealthy="it is starting")), waits=False) as served:
        assert (await rest(served)).json()["phase"] == "resting"
        served.engine.trouble.unhealthy = ""
        assert (await served.http.post(WAKE)).json()["phase"] == "awake"
        assert await served.ask("hello")


async def test_the_time_that_is_told_is_that_of_earlier_rests(tmp_path: Path) -> None:
    async with serving(tmp_path, restful()) as served:
        assert (await rest(served)).json()["retry_after_s"] > 50
        await served.http.post(WAKE)
        assert (await rest(served)).json()["retry_after_s"] < 10


async def test_an_engine_that_cannot_go_to_rest_answers_as_before(tmp_path: Path) -> None:
    class Wakeful(ScriptedEngine):
        async def rest(self) -> None:
            raise EngineError("it offers no sleep")

    async with serving(tmp_path, Wakeful(rests="sleep")) as served:
        refused = await rest(served)
        assert (refused.status_code, refused.json()["error"]["message"]) == (502, "it offers no sleep")
        await until(lambda: served.service.adapters.settled)
        assert await served.ask("hello")
        assert (await served.http.get(STATE)).json()["phase"] == "awake"


@pytest.mark.parametrize(
    ("kind", "said"), [("vllm", "set engine.rest"), ("openai", "engine.kind=openai never rests"), ("none", "engine.kind=none never rests")]
)
async def test_an_engine_that_never_rests_says_so(tmp_path: Path, kind: str, said: str) -> None:
    async with serving(tmp_path, kind=kind) as served:
        refused = await rest(served)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "engine_cannot_rest")
        assert said in refused.json()["error"]["message"]
        assert (await served.http.post(WAKE)).json()["phase"] == "awake"


@pytest.mark.parametrize("body", [{"lease_s": 0}, {"drain_s": -1}, {"reason": "sleepy"}, {"level": 1}])
async def test_a_wrong_request_changes_nothing(tmp_path: Path, body: dict[str, Any]) -> None:
    async with serving(tmp_path, restful()) as served:
        refused = await served.http.post(REST, json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, next(iter(body)))
        assert not served.engine.resting


async def test_an_attached_engine_sleeps_and_is_not_left_asleep_when_the_server_ends(tmp_path: Path) -> None:
    stub = Stub()
    stub.sleeps = True
    async with stub_serving(stub):
        engine: Any = VllmEngine(stub.url, rests="sleep")
        async with serving(tmp_path, engine, kind="attach") as served:
            lain = await rest(served)
            assert (lain.json()["phase"], lain.json()["mode"], stub.awake.is_set()) == ("resting", "sleep", False)
            assert (await served.http.post("/v1/chat/completions", json=QUESTION)).status_code == 503
            assert (await served.http.post(WAKE)).json()["phase"] == "awake"
            assert stub.awake.is_set()
            await rest(served)
            assert not stub.awake.is_set()
        assert stub.awake.is_set()
        await engine.close()


async def test_only_the_homes_administrators_say_when_the_engine_rests(tmp_path: Path) -> None:
    keys = KeyRing(tmp_path / "keys")
    made = {name: keys.create(name, tenant=tenant, scopes=scopes) for name, tenant, scopes in CALLERS}
    async with serving(tmp_path, restful()) as served:
        found: dict[str, int] = {}
        for name, (_, key) in made.items():
            answer = await served.http.post(REST, json={"lease_s": 600}, headers={"authorization": f"Bearer {key}"})
            found[name] = answer.status_code
        assert found == {"chats": 403, "other": 403, "admin": 200}
        assert (await served.http.post(WAKE)).status_code == 401
        assert served.engine.resting
        owner = {"authorization": f"Bearer {served.service.owner_token}"}
        assert (await served.http.post(WAKE, headers=owner)).json()["phase"] == "awake"


async def test_status_says_that_it_rests_what_for_and_for_how_long(tmp_path: Path) -> None:
    async with listening(tmp_path, restful()) as served:
        found = {"pid": os.getpid(), "url": str(served.http.base_url), "token": served.service.owner_token}
        (tmp_path / "server.json").write_text(json.dumps(found))
        await rest(served, reason="training")
        command = [sys.executable, "-m", "recollect", "--home", str(tmp_path), "status"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        said = (await process.communicate())[0].decode()
        assert "not ready: the engine rests (training)" in said
        assert re.search(r"^rest      resting for \d+ s \(stop, training\); woken in \d+ s unless that is put off$", said, re.M)


async def test_a_fallback_answers_while_the_engine_rests_and_what_it_says_is_not_trained_on(tmp_path: Path) -> None:
    async with (
        upstream() as url,
        listening(tmp_path, restful(), engine={"fallback": {"url": url, "model": "other"}}) as served,
    ):
        assert (await served.ask("hello"))["recollect"]["policies"] == {"memory": "scripted"}
        await rest(served)
        calls = len(served.engine.calls)
        answer = await served.ask("hello again")
        assert answer["recollect"]["policies"] == {"memory": "other"}
        ready = await served.http.get("/ready")
        assert (ready.status_code, ready.json()["engine"]["detail"]) == (200, "the engine rests (maintenance); other answers for it")
        direct = await served.http.post("/v1/chat/completions", json={**QUESTION, "model": "scripted"})
        assert direct.status_code == 200
        assert len(served.engine.calls) == calls
        await served.http.post(WAKE)
        assert (await served.ask("hello"))["recollect"]["policies"] == {"memory": "scripted"}
        assert [one.trajectory.trainable for one in await served.logged()] == [True, False, False, True]


async def test_a_fallback_that_fails_is_an_error_and_no_silence(tmp_path: Path) -> None:
    async with listening(tmp_path, restful(), engine={"fallback": {"url": "http://127.0.0.1:9", "model": "other"}}) as served:
        await rest(served)
        assert (await served.http.post("/v1/chat/completions", json=QUESTION)).status_code == 503


def test_a_fallback_needs_a_model() -> None:
    settings = EngineSettings.model_validate({"fallback": {"url": "http://127.0.0.1:9"}})
    with pytest.raises(ConfigurationError) as raised:
        open_fallback(settings)
    assert raised.value.param == "engine.fallback.model"
