"""Promise 2: no acknowledged record is lost, through `kill -9` of the server in the middle of writes."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from pathlib import Path
from typing import Any

import httpx

from tests.api.acknowledged import Acknowledged, lost
from tests.api.conftest import until
from tests.api.process import ServerProcess, upstream
from tests.conftest import scaled

WORKERS = 4
NAMESPACES = 2


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
                assert await lost(server.url, [server.home], acknowledged) == []
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
            assert await lost(survivor.url, [survivor.home], acknowledged) == []
        finally:
            await survivor.end()
    assert min(len(acknowledged.memories), len(acknowledged.answers), len(acknowledged.feedback)) >= scaled(5)
