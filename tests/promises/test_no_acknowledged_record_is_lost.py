"""Promise 2: no acknowledged record is lost, through `kill -9` of the server in the middle of writes.

Acknowledged are: a memory whose request was answered, a feedback whose request was answered, a trajectory (with the user's
turn as a memory) whose answer's body or `[DONE]` has arrived.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from recollect.log import read_log
from recollect.trajectory import Feedback
from tests.api.conftest import until
from tests.api.process import ServerProcess, upstream
from tests.conftest import scaled

WORKERS = 4
NAMESPACES = 2


@dataclass(slots=True)
class Acknowledged:
    """What the server has promised to keep."""

    memories: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """By id: namespace and text."""
    answers: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """By trajectory id: user and what they said, which the stub repeats."""
    feedback: dict[str, str] = field(default_factory=dict[str, str])
    """By trajectory id: the comment."""

    def __len__(self) -> int:
        return len(self.memories) + len(self.answers) + len(self.feedback)


class Life:
    """One life of the server: workers write to it until it is killed."""

    def __init__(self, url: str, acknowledged: Acknowledged, count: itertools.count[int]) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=120)
        self._acknowledged = acknowledged
        self._count = count

    async def work(self) -> None:
        """Write one thing after the other until the server is gone."""
        try:
            while True:
                number = next(self._count)
                await (self._remember, self._chat, self._stream)[number % 3](number)
        except httpx.TransportError:
            return

    async def close(self) -> None:
        await self._http.aclose()

    async def _remember(self, number: int) -> None:
        body = {"id": f"m{number}", "text": f"Memory number {number}.", "user": f"u{number % NAMESPACES}"}
        answer = await self._http.post("/v1/memories", json=body)
        assert answer.status_code == 201, answer.text
        self._acknowledged.memories[body["id"]] = (body["user"], body["text"])

    async def _chat(self, number: int) -> None:
        asked = self._asked(number)
        answer = await self._http.post("/v1/chat/completions", json=asked)
        assert answer.status_code == 200, answer.text
        await self._answered(answer.json()["recollect"]["trajectory_id"], asked, number)

    async def _stream(self, number: int) -> None:
        asked = {**self._asked(number), "stream": True}
        trajectory_id, done = "", False
        async with self._http.stream("POST", "/v1/chat/completions", json=asked) as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    done = True
                elif line:
                    event = json.loads(line.removeprefix("data: "))
                    assert "error" not in event, event
                    trajectory_id = event.get("recollect", {}).get("trajectory_id", trajectory_id)
        assert done
        await self._answered(trajectory_id, asked, number)

    async def _answered(self, trajectory_id: str, asked: dict[str, Any], number: int) -> None:
        self._acknowledged.answers[trajectory_id] = (asked["user"], asked["messages"][0]["content"])
        comment = f"comment {number}"
        given = await self._http.post("/v1/feedback", json={"id": trajectory_id, "label": "up", "comment": comment})
        assert given.status_code == 200, given.text
        self._acknowledged.feedback[trajectory_id] = comment

    def _asked(self, number: int) -> dict[str, Any]:
        text = f"This is what I said as number {number}."
        return {"model": "memory", "messages": [{"role": "user", "content": text}], "user": f"u{number % NAMESPACES}"}


async def memories_of(url: str, user: str) -> dict[str, str]:
    """Every current memory of a user, by id."""
    found: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:
        while True:
            page = (await http.get("/v1/memories", params={"namespace": user, "limit": 1000, "offset": len(found)})).json()
            found |= {memory["id"]: memory["text"] for memory in page["data"]}
            if not page["has_more"]:
                return found


def feedback_of(given: list[Feedback]) -> set[str | None]:
    return {feedback.comment for feedback in given}


async def check(server: ServerProcess, acknowledged: Acknowledged) -> None:
    """Everything that was acknowledged is there."""
    memories = {user: await memories_of(server.url, user) for user in (f"u{n}" for n in range(NAMESPACES))}
    for memory_id, (user, text) in acknowledged.memories.items():
        assert memories[user].get(memory_id) == text
    logged = {one.trajectory.id: one for one in read_log(server.home / "trajectories").trajectories}
    for trajectory_id, (user, text) in acknowledged.answers.items():
        assert trajectory_id in logged
        assert logged[trajectory_id].trajectory.answer.endswith(text)
        assert logged[trajectory_id].trajectory.error is None
        assert text in memories[user].values()
    for trajectory_id, comment in acknowledged.feedback.items():
        assert comment in feedback_of(logged[trajectory_id].feedback)


async def test_kill_9_in_the_middle_of_writes_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(2)
    acknowledged, count = Acknowledged(), itertools.count()
    async with upstream() as url:
        overrides = ("embedder.kind=none", "engine.kind=openai", "engine.model=stub", f"engine.urls=[{url}]", "agents.prompts=compact")
        for _ in range(scaled(5)):
            server = ServerProcess(tmp_path / "home", *overrides)
            await server.start()
            try:
                await server.ready()
                await check(server, acknowledged)
                life = Life(server.url, acknowledged, count)
                workers = [asyncio.create_task(life.work()) for _ in range(WORKERS)]
                enough = len(acknowledged) + chance.randrange(10, 60)
                await until(lambda enough=enough, workers=workers: len(acknowledged) >= enough or any(w.done() for w in workers))
                # Not at the moment of an acknowledgement, but anywhere between two.
                await asyncio.sleep(chance.uniform(0, 0.02))
            finally:
                server.kill()
            await asyncio.gather(*workers)
            await life.close()
        survivor = ServerProcess(tmp_path / "home", *overrides)
        await survivor.start()
        try:
            await survivor.ready()
            await check(survivor, acknowledged)
        finally:
            await survivor.end()
    assert min(len(acknowledged.memories), len(acknowledged.answers), len(acknowledged.feedback)) >= scaled(5)
