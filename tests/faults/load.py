"""Clients that go on writing through a fault, and keep account of what they were promised and what they saw."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.api.acknowledged import Acknowledged
from tests.api.conftest import until

CLIENTS = 4
USERS = 2
PAUSE_S = 0.02


class Load:
    """Memories, plain and streamed answers, and feedback, one after the other from each of some clients, to all of `urls` in turn."""

    def __init__(self, urls: Sequence[str], *, first: int = 0) -> None:
        """`first`: the number of what is said first; no two loads on one server say the same."""
        self.urls = list(urls)
        self.acknowledged = Acknowledged()
        self.seen: Counter[str] = Counter()
        """What clients saw other than a good answer."""
        self.good = 0
        self._count = itertools.count(first)

    async def answers(self, more: int) -> None:
        """Until so many more good answers have come."""
        wanted = self.good + more
        await until(lambda: self.good >= wanted, timeout_s=120)

    async def troubles(self, more: int) -> None:
        """Until clients have seen so many more troubles."""
        wanted = self.seen.total() + more
        await until(lambda: self.seen.total() >= wanted, timeout_s=120)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """While the block runs clients write."""
        tasks = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            wrong = [one for one in ended if isinstance(one, BaseException) and not isinstance(one, asyncio.CancelledError)]
            if wrong:
                raise wrong[0]

    async def _client(self) -> None:
        async with httpx.AsyncClient(timeout=60) as http:
            while True:
                number = next(self._count)
                url = self.urls[number % len(self.urls)]
                try:
                    await (self._remember, self._chat, self._stream)[number % 3](http, url, number)
                except httpx.TransportError as exc:
                    self.seen[f"no answer ({type(exc).__name__})"] += 1
                    await asyncio.sleep(PAUSE_S)

    async def _remember(self, http: httpx.AsyncClient, url: str, number: int) -> None:
        body = {"id": f"m{number}", "text": f"Memory number {number}.", "user": _user(number)}
        answer = await http.post(f"{url}/v1/memories", json=body)
        if await self._is_good(answer, 201, "memory"):
            self.acknowledged.memories[body["id"]] = (body["user"], body["text"])

    async def _chat(self, http: httpx.AsyncClient, url: str, number: int) -> None:
        answer = await http.post(f"{url}/v1/chat/completions", json=_asked(number))
        if await self._is_good(answer, 200, "answer"):
            await self._answered(http, url, answer.json()["recollect"]["trajectory_id"], number)

    async def _stream(self, http: httpx.AsyncClient, url: str, number: int) -> None:
        trajectory_id, done = "", False
        async with http.stream("POST", f"{url}/v1/chat/completions", json={**_asked(number), "stream": True}) as answer:
            if answer.status_code != 200:
                await answer.aread()
                await self._is_good(answer, 200, "stream")
                return
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    done = True
                elif line:
                    event: dict[str, Any] = json.loads(line.removeprefix("data: "))
                    if error := event.get("error"):
                        self.seen[f"stream: an error event ({error['code']})"] += 1
                        return
                    trajectory_id = event.get("recollect", {}).get("trajectory_id", trajectory_id)
        if not done:
            self.seen["stream: ended without [DONE] and without an error"] += 1
            return
        self.good += 1
        await self._answered(http, url, trajectory_id, number)

    async def _answered(self, http: httpx.AsyncClient, url: str, trajectory_id: str, number: int) -> None:
        self.acknowledged.answers[trajectory_id] = (_user(number), _text(number))
        comment = f"comment {number}"
        given = await http.post(f"{url}/v1/feedback", json={"id": trajectory_id, "label": "up", "comment": comment})
        if await self._is_good(given, 200, "feedback"):
            self.acknowledged.feedback[trajectory_id] = comment

    async def _is_good(self, answer: httpx.Response, status: int, what: str) -> bool:
        if answer.status_code == status:
            self.good += 1
            return True
        code = answer.json()["error"]["code"]
        self.seen[f"{what}: {answer.status_code} {code}"] += 1
        if answer.status_code in (429, 503):
            assert int(answer.headers["retry-after"]) >= 1
        await asyncio.sleep(PAUSE_S)
        return False


def _user(number: int) -> str:
    return f"u{number % USERS}"


def _text(number: int) -> str:
    return f"This is what I said as number {number}."


def _asked(number: int) -> dict[str, Any]:
    return {"model": "memory", "messages": [{"role": "user", "content": _text(number)}], "user": _user(number)}
