"""More than can be answered at once: who waits, who is sent away and how that is told; answers and tool rounds without end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from recollect.errors import EngineUnavailable
from recollect.keys import KeyRing
from recollect.memory import Namespace
from recollect.messages import user
from server.engines.scripted import ScriptedEngine, Trouble
from server.identity import Identity
from server.service import ChatRequest
from tests.api.conftest import Served, serving, until
from tests.api.delegating import delegating
from tests.api.live import listening
from tests.api.test_mcp import call, connected, refusal

ASKED: dict[str, Any] = {"model": "memory", "messages": [{"role": "user", "content": "a question"}]}
MESSAGES: dict[str, Any] = {**ASKED, "max_tokens": 100}
RESPONSES: dict[str, Any] = {"model": "memory", "input": "a question"}


def held() -> ScriptedEngine:
    return ScriptedEngine(trouble=Trouble(hold=asyncio.Event()))


def let_go(served: Served) -> None:
    served.engine.trouble.hold.set()


@asynccontextmanager
async def asking(served: Served, *asked: Coroutine[Any, Any, httpx.Response]) -> AsyncGenerator[list[asyncio.Task[httpx.Response]]]:
    """Requests under way: the first is being answered, the others have come one after the other."""
    tasks: list[asyncio.Task[httpx.Response]] = []
    chat = served.service.chat
    for each in asked:
        before = chat.in_flight + queued(served)
        tasks.append(asyncio.create_task(each))
        await until(lambda before=before: chat.in_flight + queued(served) > before or any(task.done() for task in tasks))
    yield tasks
    let_go(served)
    await asyncio.gather(*tasks, return_exceptions=True)


def queued(served: Served) -> int:
    return int(figure(served, "recollect_requests_queued"))


def figure(served: Served, name: str) -> float:
    lines = served.service.metrics.text([]).decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ") or line.startswith(f"{name}{{")), 0.0)


async def test_what_finds_no_place_waits_and_is_answered_later(tmp_path: Path) -> None:
    async with serving(tmp_path, held(), server={"max_in_flight": 1}) as served:
        ask = served.http.post
        async with asking(served, *(ask("/v1/chat/completions", json=ASKED) for _ in range(3))) as tasks:
            assert (served.service.chat.in_flight, queued(served), served.engine.in_flight) == (1, 2, 1)
            let_go(served)
            assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [200] * 3
        assert (served.service.chat.in_flight, queued(served)) == (0, 0)


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", ASKED), ("/v1/responses", RESPONSES), ("/v1/messages", MESSAGES)])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_queue_is_a_429_with_retry_after(tmp_path: Path, path: str, body: dict[str, Any], stream: bool) -> None:
    async with (
        serving(tmp_path, held(), server={"max_in_flight": 1, "max_queued": 1}) as served,
        asking(served, *(served.http.post(path, json=body) for _ in range(2))),
    ):
        answer = await served.http.post(path, json={**body, "stream": stream})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "overloaded")
        assert figure(served, "recollect_requests_rejected_total") == 1


async def test_who_waits_too_long_gets_a_429_that_the_sdk_knows(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, held(), server={"max_in_flight": 1, "queue_timeout_s": 0.05}) as served,
        asking(served, served.http.post("/v1/chat/completions", json=ASKED)),
    ):
        with pytest.raises(openai.RateLimitError, match=r"server\.queue_timeout_s"):
            await served.openai.chat.completions.create(**ASKED)
        assert queued(served) == 0


async def test_a_tenant_that_asks_for_much_does_not_keep_another_waiting(tmp_path: Path) -> None:
    async with serving(tmp_path, held(), server={"max_in_flight": 1, "max_queued": 4}) as served:
        ring = KeyRing(served.home / "keys")
        keys = {tenant: ring.create(tenant, tenant=tenant)[1] for tenant in ("greedy", "modest")}

        def ask(tenant: str, text: str) -> Coroutine[Any, Any, httpx.Response]:
            body = {**ASKED, "messages": [{"role": "user", "content": text}], "metadata": {"memory": "off"}}
            return served.http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {keys[tenant]}"})

        greedy = [ask("greedy", f"greedy {number}") for number in range(5)]
        async with asking(served, *greedy, ask("modest", "modest")) as tasks:
            let_go(served)
            answers = await asyncio.gather(*tasks)
        assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429, 200]
        said = [call.messages[-1].content for call in served.engine.calls]
        assert said == ["greedy 0", "greedy 1", "modest", "greedy 2", "greedy 3"]


async def test_a_client_that_leaves_while_it_waits_frees_its_place(tmp_path: Path) -> None:
    async with listening(tmp_path, held(), server={"max_in_flight": 1, "max_queued": 1}) as served:
        async with asking(served, *(served.http.post("/v1/chat/completions", json=ASKED) for _ in range(2))) as tasks:
            assert queued(served) == 1
            tasks[1].cancel()
            await until(lambda: queued(served) == 0)
            async with asking(served, served.http.post("/v1/chat/completions", json=ASKED)) as [third]:
                assert queued(served) == 1
                let_go(served)
                assert (await third).status_code == 200
        assert len(served.engine.calls) == 2


async def test_failed_and_abandoned_answers_give_their_places_back(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"max_in_flight": 1}) as served:

        def broken(_: Any) -> str:
            raise KeyError("a defect")

        answer, served.engine.answer = served.engine.answer, broken
        for _ in range(3):
            assert (await served.http.post("/v1/chat/completions", json=ASKED)).status_code == 500
        served.engine.answer = answer
        for wrong in ({**ASKED, "model": "nobody"}, {**ASKED, "model": "reader", "tools": [_tool("look")]}):
            assert (await served.http.post("/v1/chat/completions", json=wrong)).status_code in (400, 404)
        served.service.adapters.lost()
        assert (await served.http.post("/v1/chat/completions", json=ASKED)).status_code == 503
        await until(lambda: served.service.adapters.settled)
        assert not served.service.chat.crowded
        await served.ask("still there")
        assert not served.service.chat.crowded


async def test_questions_and_readings_by_mcp_pass_the_same_door(tmp_path: Path) -> None:
    one_place = {"max_in_flight": 1, "max_queued": 0}
    async with (
        connected(tmp_path, path="/all", engine=held(), server=one_place, mcp={"all": True}) as (client, served),
        asking(served, served.http.post("/v1/chat/completions", json=ASKED)),
    ):
        assert "1 answers are in progress" in await refusal(client, "ask_agent", question="who?")
        assert "1 answers are in progress" in await refusal(client, "read_document", question="who?", text="a text")


async def test_what_is_handed_on_to_another_server_takes_no_place_here(tmp_path: Path) -> None:
    one_place = {"max_in_flight": 1, "max_queued": 0}
    async with (
        delegating(tmp_path, lambda _: "Forty-two.", engine=held(), server=one_place) as place,
        asking(place.served, place.served.http.post("/v1/chat/completions", json=ASKED)),
    ):
        assert (await place.call("think", task="What is six times seven?", use="house/scripted"))["answer"] == "Forty-two."
        assert "answers are in progress" in await place.refusal("think", task="And seven times six?", use="own/memory")


async def test_a_reading_may_take_longer_than_an_answer(tmp_path: Path) -> None:
    async with connected(tmp_path, path="/documents", engine=held(), server={"max_stream_s": 0.01}) as (client, served):
        begun = await call(client, "read_document", question="who?", text="a text", wait_s=0.2)
        assert begun["status"] == "running"
        let_go(served)
        assert (await call(client, "get_reading", reading_id=begun["reading_id"]))["status"] == "done"


def _tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("path", "body", "last"),
    [
        ("/v1/chat/completions", ASKED, lambda event: event["error"]["code"]),
        ("/v1/messages", MESSAGES, lambda event: {"timeout_error": "answer_timeout"}[event["error"]["type"]]),
        ("/v1/responses", RESPONSES, lambda event: {"response.failed": "answer_timeout"}[event["type"]]),
    ],
)
async def test_a_stream_that_takes_too_long_ends_with_an_error_event(tmp_path: Path, path: str, body: dict[str, Any], last: Any) -> None:
    engine = ScriptedEngine(trouble=Trouble(delay_s=0.01), answer=lambda _: "word " * 2000)
    async with listening(tmp_path, engine) as served:
        events: list[str] = []
        async with served.http.stream("POST", path, json={**body, "stream": True}) as answer:
            async for line in answer.aiter_lines():
                if not line.startswith("data: "):
                    continue
                events.append(line.removeprefix("data: "))
                if len(events) == 8:
                    [exchange] = served.service.chat._running  # pyright: ignore
                    exchange.overrun(0.2)
        assert last(json.loads(events[-1])) == "answer_timeout"
        assert "server.max_stream_s" in events[-1]
        await until(lambda: engine.in_flight == 0)
        [logged] = await served.logged()
        assert (logged.trajectory.error or "").startswith("AnswerTooLong: the answer was ended after 0.2 s")
        assert logged.trajectory.answer.startswith("word")


async def test_a_whole_answer_that_takes_too_long_is_a_504(tmp_path: Path) -> None:
    async with serving(tmp_path, held(), server={"max_stream_s": 0.05}) as served:
        answer = await served.http.post("/v1/chat/completions", json=ASKED)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "answer_timeout")
        assert served.engine.in_flight == 0


def _round(number: int) -> list[dict[str, Any]]:
    call = {"id": f"call_{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"call_{number}", "content": "-"},
    ]


async def test_tool_calls_without_end_are_refused_until_the_user_speaks(tmp_path: Path) -> None:
    async with serving(tmp_path, agents={"max_tool_rounds": 3}) as served:
        rounds = [message for number in range(4) for message in _round(number)]
        body = {**ASKED, "tools": [_tool("look")]}
        allowed = await served.http.post("/v1/chat/completions", json={**body, "messages": [*ASKED["messages"], *rounds[:6]]})
        assert allowed.status_code == 200
        refused = await served.http.post("/v1/chat/completions", json={**body, "messages": [*ASKED["messages"], *rounds]})
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert (error["param"], error["code"]) == ("messages", "too_many_tool_rounds")
        assert "agents.max_tool_rounds" in error["message"]
        spoken = [*ASKED["messages"], *rounds, {"role": "user", "content": "go on"}]
        assert (await served.http.post("/v1/chat/completions", json={**body, "messages": spoken})).status_code == 200


async def test_an_answer_that_is_stopped_before_its_first_step_tells_so_and_leaves_nothing_taken(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"max_in_flight": 1}) as served:
        chat, who = served.service.chat, Identity(Namespace(tenant="local"), None)
        exchange = await chat.begin(ChatRequest(model="memory", messages=(user("hello"),), identity=who, session="s"))
        exchange.stop()
        with pytest.raises(EngineUnavailable, match="the server was stopped"):
            await exchange.begun()
        assert (chat.crowded, chat.in_flight, served.engine.calls) == (False, 0, [])
        [logged] = await served.logged()
        assert logged.trajectory.error is not None
