"""Workers at `/delegate/mcp`: they go on beside, take what comes, have budgets, and outlive the server."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from recollect.errors import TooManyRequests
from server.engines.scripted import ScriptedCall, Spoken
from tests.api.conftest import until
from tests.api.delegating import delegating, results, uses
from tests.api.test_mcp import call, refusal


async def test_the_same_call_thrice_stops_a_worker_and_so_does_its_budget(tmp_path: Path) -> None:
    rounds = iter(range(1000))
    async with delegating(tmp_path, lambda _: uses("read_file", path="notes.txt")) as place:
        stuck = await place.call("agent_task", task="Read it again and again.", use="house")
        assert stuck["state"] == "failed"
        assert "the same call of read_file was made 3 times" in stuck["error"]
        place.peer.answer = lambda _: uses("read_file", path="notes.txt", offset=next(rounds))
        endless = await place.call("agent_task", task="Read it piece by piece.", use="house")
        assert "made 5 calls without an answer" in endless["error"]
        place.peer.answer = lambda _: "Enough."
        allowed = await place.call("send_agent_input", worker_id=endless["worker_id"], text="Stop now and answer.")
        assert (await place.call("wait_agent", worker_id=allowed["worker_id"]))["answer"] == "Enough."


async def test_tokens_of_a_worker_are_counted_over_its_tasks(tmp_path: Path) -> None:
    def changed(plan: dict[str, Any]) -> None:
        plan["budget"]["tokens"] = 50

    async with delegating(tmp_path, lambda _: "x" * 100, changed=changed) as place:
        first = await place.call("agent_task", task="Say something.", use="house")
        assert first["state"] == "done"
        await place.call("send_agent_input", worker_id=first["worker_id"], text="And more.")
        spent = await place.call("wait_agent", worker_id=first["worker_id"])
        assert (spent["state"], "has used its 50 tokens" in spent["error"]) == ("failed", True)


async def test_workers_go_on_beside_and_take_what_comes_meanwhile(tmp_path: Path) -> None:
    async with delegating(tmp_path, lambda asked: f"Heard: {asked.messages[-1].content}") as place:
        place.peer.trouble.hold = asyncio.Event()
        spawned = await place.call("spawn_agent", description="listens", task="One.", use="house")
        assert spawned["state"] == "running"
        assert (await place.call("wait_agent", worker_id=spawned["worker_id"], wait_s=0.05))["state"] == "running"
        await place.call("send_agent_input", worker_id=spawned["worker_id"], text="Two.")
        place.peer.trouble.hold.set()
        done = await place.call("wait_agent", worker_id=spawned["worker_id"])
        assert (done["state"], done["answer"]) == ("done", "Heard: Two.")
        listed = (await place.call("list_agents"))["workers"]
        assert [(worker["description"], worker["state"]) for worker in listed] == [("listens", "done")]
        async with place.of("bob") as bob:
            assert "no worker" in await refusal(bob, "wait_agent", worker_id=spawned["worker_id"])
            assert "no worker" in await refusal(bob, "close_agent", worker_id=spawned["worker_id"])
            assert (await call(bob, "list_agents"))["workers"] == []
        assert (await place.call("close_agent", worker_id=spawned["worker_id"]))["state"] == "closed"
        assert "was closed" in await place.refusal("send_agent_input", worker_id=spawned["worker_id"], text="Three.")


async def test_a_worker_outlives_the_server_as_interrupted_and_goes_on(tmp_path: Path) -> None:
    read = asyncio.Event()

    def answer(asked: ScriptedCall) -> str | Spoken:
        if not results(asked):
            return uses("read_file", path="notes.txt")
        read.set()
        return f"Read: {results(asked)[0].splitlines()[0]}"

    def held(asked: ScriptedCall) -> str | Spoken:
        if results(asked):
            place.peer.trouble.hold = asyncio.Event()
        return answer(asked)

    async with delegating(tmp_path, held) as place:
        await place.call("spawn_agent", description="reads", task="Read the notes.", use="house")
        await read.wait()
    async with delegating(tmp_path, answer) as place:
        [found] = (await place.call("list_agents"))["workers"]
        assert (found["state"], "send_agent_input goes on" in found["error"]) == ("interrupted", True)
        await place.call("send_agent_input", worker_id=found["worker_id"])
        done = await place.call("wait_agent", worker_id=found["worker_id"])
        assert (done["state"], done["answer"]) == ("done", "Read: The launch is on Tuesday.")
        assert len(place.peer.calls) == 1  # what it had read before is in its conversation


async def test_a_task_has_its_time_and_then_ends(tmp_path: Path) -> None:
    def changed(plan: dict[str, Any]) -> None:
        plan["budget"]["seconds"] = 0.3

    async with delegating(tmp_path, lambda _: "Late.", changed=changed) as place:
        place.peer.trouble.hold = asyncio.Event()
        assert "no answer within 0 s" in await place.refusal("think", task="Hello.", use="house")
        assert "no answer within 0 s" in (await place.call("agent_task", task="Hello.", use="house"))["error"]
        await until(lambda: place.peer.in_flight == 0)


async def test_a_worker_that_a_killed_server_left_is_interrupted(tmp_path: Path) -> None:
    async with delegating(tmp_path, lambda _: "Never.") as place:
        spawned = await place.call("spawn_agent", description="waits", task="Wait.", use="house")
        await place.call("wait_agent", worker_id=spawned["worker_id"])
        file = place.served.home / "workers" / "local" / f"{spawned['worker_id']}.json"
        assert file.stat().st_mode & 0o777 == 0o600
        left = json.loads(file.read_text()) | {"state": "running", "answer": ""}
    file.write_text(json.dumps(left))
    async with delegating(tmp_path, lambda _: "At last.") as place:
        [found] = (await place.call("list_agents"))["workers"]
        assert found["state"] == "interrupted"
        await place.call("send_agent_input", worker_id=found["worker_id"])
        assert (await place.call("wait_agent", worker_id=found["worker_id"]))["answer"] == "At last."


async def test_forgetting_reaches_workers(tmp_path: Path) -> None:
    async with delegating(tmp_path, lambda _: "The canary 9931 sings.") as place, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(place.of(user)) for user in ("ada", "bob", "eve")]

        async def left() -> list[list[str]]:
            return [[worker["worker_id"] for worker in (await call(client, "list_agents"))["workers"]] for client in clients]

        made = [(await call(client, "agent_task", task="What does it do?", use="house"))["worker_id"] for client in clients]
        await place.served.logged()
        assert await left() == [[one] for one in made]
        [memory] = (await place.served.http.get("/v1/memories", params={"namespace": "ada"})).json()["data"]
        for body in ({"namespace": "ada", "id": memory["id"]}, {"namespace": "bob", "everything": True}):
            forgotten = await place.served.http.post("/v1/memories/forget", json=body)
            assert forgotten.status_code == 200, forgotten.text
        assert await left() == [[], [], made[2:]]


async def test_a_worker_waits_where_there_is_no_room_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with delegating(tmp_path, lambda _: "At last.") as place:
        chat, refusals = place.served.service.chat, [TooManyRequests("no room", retry_after_s=0) for _ in range(2)]
        begin = chat.begin

        async def crowded(*request: Any, **more: Any) -> Any:
            if refusals:
                raise refusals.pop()
            return await begin(*request, **more)

        monkeypatch.setattr(chat, "begin", crowded)
        assert (await place.call("agent_task", task="Wait.", use="house"))["answer"] == "At last."
        refusals.append(TooManyRequests("no tokens today", retry_after_s=40_000))
        assert "no tokens today" in json.dumps(await place.call("agent_task", task="Wait.", use="house"))


async def test_workers_work_at_once_up_to_a_limit(tmp_path: Path) -> None:
    def changed(plan: dict[str, Any]) -> None:
        plan["workers"] = {"running": 2, "kept": 3}

    async with delegating(tmp_path, lambda asked: asked.messages[-1].content, changed=changed) as place:
        place.peer.trouble.hold = asyncio.Event()
        both = [await place.call("spawn_agent", description=f"{n}", task=f"Task {n}.", use="house") for n in (1, 2)]
        await until(lambda: place.peer.in_flight == 2)
        assert "2 workers are at work" in await place.refusal("spawn_agent", description="3", task="Task 3.", use="house")
        place.peer.trouble.hold.set()
        for worker in both:
            assert (await place.call("wait_agent", worker_id=worker["worker_id"]))["state"] == "done"
        for number in (3, 4):
            await place.call("agent_task", task=f"Task {number}.", use="house")
        listed = (await place.call("list_agents"))["workers"]
        assert [worker["description"] for worker in listed] == ["Task 4.", "Task 3.", "2"]
