"""A key's tokens a day under parallel requests: what is being answered is reserved, and settled however it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from recollect.errors import TooManyRequests
from recollect.keys import KeyRing
from recollect.memory import Namespace
from recollect.messages import user
from server.engines.scripted import ScriptedEngine, Trouble
from server.identity import Identity
from server.key_limits import KeyLimits
from server.principal import Principal
from server.service import ChatRequest
from server.service.usage import UsageBook
from tests.api.conftest import Served, serving, until

ASKED: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}


def _key(served: Served, tokens_per_day: int) -> tuple[str, dict[str, str]]:
    key, secret = KeyRing(served.home / "keys").create("one", tokens_per_day=tokens_per_day)
    return key.id, {"authorization": f"Bearer {secret}"}


def _held() -> ScriptedEngine:
    """It answers when its `hold` is set."""
    return ScriptedEngine(trouble=Trouble(hold=asyncio.Event()))


@pytest.mark.parametrize(("budget", "admitted"), [(51, 1), (60, 2)])
@pytest.mark.parametrize("streaming", [False, True])
async def test_parallel_requests_pass_no_budget_together(tmp_path: Path, budget: int, admitted: int, streaming: bool) -> None:
    async with serving(tmp_path, _held()) as served:
        key, headers = _key(served, budget)
        body = {**ASKED, "stream": streaming}
        asking = [asyncio.create_task(served.http.post("/v1/chat/completions", headers=headers, json=body)) for _ in range(8)]
        await until(lambda: sum(task.done() for task in asking) == 8 - admitted)
        await until(lambda: served.service.chat.in_flight == admitted)
        assert served.service.limits.reserved(key) == 51 * admitted
        for refused in [task.result() for task in asking if task.done()]:
            assert refused.status_code == 429
            assert (refused.json()["error"]["code"], refused.headers["retry-after"]) == ("rate_limit_exceeded", "5")
            assert f"{budget} tokens of today (UTC) are used, or reserved" in refused.json()["error"]["message"]
        served.engine.trouble.hold.set()
        answers = [answer for task in asking if (answer := await task).status_code == 200]
        assert len(answers) == admitted
        limits = served.service.limits
        assert limits.reserved(key) == 0
        used = [one.trajectory.steps[0].usage.total_tokens for one in await served.logged()]
        assert limits.used_today(key) == sum(used) > 0


async def test_what_was_not_used_is_free_again_for_the_next(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        key, headers = _key(served, 200)
        body = {**ASKED, "max_tokens": 5000}  # above the whole budget: one that is asked alone is answered
        for _ in range(2):
            assert (await served.http.post("/v1/chat/completions", headers=headers, json=body)).status_code == 200
        assert 0 < served.service.limits.used_today(key) < 200


async def test_other_protocols_and_keys(tmp_path: Path) -> None:
    async with serving(tmp_path, _held()) as served:
        _, headers = _key(served, 10)
        _, other = _key(served, 10)
        first = asyncio.create_task(served.http.post("/v1/chat/completions", headers=headers, json=ASKED))
        await until(lambda: served.service.chat.in_flight == 1)
        said = ASKED["messages"]
        message = await served.http.post("/v1/messages", headers=headers, json={"model": "memory", "max_tokens": 9, "messages": said})
        assert (message.status_code, message.json()["error"]["type"]) == (429, "rate_limit_error")
        response = await served.http.post("/v1/responses", headers=headers, json={"model": "memory", "input": "hi"})
        assert response.status_code == 429
        theirs = asyncio.create_task(served.http.post("/v1/chat/completions", headers=other, json=ASKED))
        await until(lambda: served.service.chat.in_flight == 2)
        served.engine.trouble.hold.set()
        assert [(await task).status_code for task in (first, theirs)] == [200, 200]


async def test_one_that_fails_is_cancelled_or_gets_no_place_leaves_nothing_reserved(tmp_path: Path) -> None:
    async with serving(tmp_path, _held(), server={"max_in_flight": 1, "queue_timeout_s": 0.05}) as served:
        key, headers = _key(served, 10_000)
        limits, trouble = served.service.limits, served.engine.trouble

        async def ask() -> httpx.Response:
            return await served.http.post("/v1/chat/completions", headers=headers, json=ASKED)

        leaving = asyncio.create_task(ask())
        await until(lambda: served.service.chat.in_flight == 1)
        assert (await ask()).json()["error"]["code"] == "overloaded"
        assert limits.reserved(key) == 51
        leaving.cancel()
        await until(lambda: served.service.chat.in_flight == 0)
        assert limits.reserved(key) == 0
        trouble.hold.set()
        trouble.break_after = 0
        before = limits.used_today(key)
        assert (await ask()).status_code == 503
        assert limits.reserved(key) == 0
        assert limits.used_today(key) > before
        wrong = await served.http.post("/v1/chat/completions", headers=headers, json={**ASKED, "model": "nobody"})
        assert (wrong.status_code, limits.reserved(key)) == (404, 0)
        exchange = await served.service.chat.begin(ChatRequest("scripted", (user("hi"),), Identity(Namespace(tenant="local"), key), "s"))
        exchange.stop()
        await until(lambda: limits.reserved(key) == 0)


TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look", "description": "x" * 4_000, "parameters": {"type": "object"}}}


async def test_tools_are_reserved_for_too(tmp_path: Path) -> None:
    async with serving(tmp_path, _held()) as served:
        key, headers = _key(served, 100_000)
        body = {**ASKED, "model": "memory", "tools": [TOOL], "max_tokens": 5}
        asking = asyncio.create_task(served.http.post("/v1/chat/completions", headers=headers, json=body))
        await until(lambda: served.service.chat.in_flight == 1)
        assert served.service.limits.reserved(key) > 1_000
        served.engine.trouble.hold.set()
        assert (await asking).status_code == 200


async def test_one_who_leaves_pays_for_what_there_was(tmp_path: Path) -> None:
    engine = ScriptedEngine(answer=lambda _: "word " * 200, piece_tokens=5)
    async with serving(tmp_path, engine) as served:
        key, _ = _key(served, 100_000)
        identity = Identity(Namespace(tenant="local"), key)
        exchange = await served.service.chat.begin(ChatRequest("scripted", (user("hi"),), identity, "s", stream=True))
        seen = 0
        async for event in exchange:
            if (seen := seen + len(event.text)) >= 400:
                served.engine.trouble.hold = asyncio.Event()
                break
        exchange.abandon()
        await until(lambda: served.service.chat.in_flight == 0)
        assert served.service.limits.used_today(key) >= seen // 4


async def test_a_key_without_tokens_still_reads(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        _, headers = _key(served, 1)
        assert (await served.http.post("/v1/chat/completions", headers=headers, json=ASKED)).status_code == 200
        assert (await served.http.post("/v1/chat/completions", headers=headers, json=ASKED)).status_code == 429
        assert (await served.http.get("/v1/memories", headers=headers)).status_code == 200


def test_a_reservation_is_settled_once(tmp_path: Path) -> None:
    limits = KeyLimits(UsageBook(tmp_path))
    limits.take(Principal(key_id="k", tokens_per_day=10))
    reserved = limits.reserve("local", "k", 30)
    with pytest.raises(TooManyRequests, match="wait for one to end"):
        limits.reserve("local", "k", 1)
    reserved.settle(4)
    reserved.settle(4)
    assert (limits.reserved("k"), limits.used_today("k")) == (0, 4)
    limits.reserve("local", "k", 1).settle(6)
    with pytest.raises(TooManyRequests, match="has used its 10 tokens of today") as told:
        limits.reserve("local", "k", 1)
    assert told.value.retry_after_s > 0
    limits.reserve("local", None, 10**9).settle(10**9)
