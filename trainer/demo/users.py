"""The demo's users: they talk to the server with the real `openai` client, tell facts in one session and ask in another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from openai import AsyncOpenAI, OpenAIError

from trainer.environments.tasks import Task
from trainer.rewards.exact_match import boxed_exact_match, exact_match

CONCURRENT_USERS = 12
MAX_TOKENS = 64
"""Of an answer: a small model that finds no end would write to the end of its window."""


class Asked(NamedTuple):
    """A question that was asked, and what came back. `policy` is what the response says answered."""

    task: Task
    answer: str
    right: bool
    completion_id: str
    policy: str


class Streamed(NamedTuple):
    """One streamed request of the load: when it began, what answered, what went wrong."""

    began: float
    policy: str
    error: str | None


def client(url: str) -> AsyncOpenAI:
    """The client that any application would use."""
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=120, max_retries=0)


async def live(openai: AsyncOpenAI, task: Task, user: str) -> Asked:
    """Tell what the task's user tells, in one session; ask its question in another."""
    for turn in task.conversation:
        await openai.chat.completions.create(
            model=task.agent,
            messages=[{"role": "user", "content": turn.messages[-1].content}],
            user=user,
            max_tokens=MAX_TOKENS,
            extra_headers={"X-Session-Id": f"{user}-told"},
        )
    answer = await openai.chat.completions.create(
        model=task.agent,
        messages=[{"role": "user", "content": m.content} for m in task.request],
        user=user,
        max_tokens=MAX_TOKENS,
        extra_headers={"X-Session-Id": f"{user}-asked"},
    )
    text = answer.choices[0].message.content or ""
    matches = boxed_exact_match if task.kind == "reading" else exact_match
    extension = (answer.model_extra or {}).get("recollect", {})
    return Asked(task, text, matches(text, task.gold) == 1.0, answer.id, ", ".join(extension.get("policies", {}).values()))


async def live_all(url: str, tasks: Sequence[Task], prefix: str, advance: Callable[[], None]) -> list[Asked]:
    """Every task as a user of its own, some at a time, in the order of `tasks`. Raises what the client raises."""
    places = asyncio.Semaphore(CONCURRENT_USERS)
    async with client(url) as openai:

        async def one(number: int, task: Task) -> Asked:
            async with places:
                asked = await live(openai, task, f"{prefix}-{number}")
            advance()
            return asked

        return list(await asyncio.gather(*(one(number, task) for number, task in enumerate(tasks))))


async def give_feedback(url: str, asked: Sequence[Asked], *, sabotaged: bool = False) -> tuple[int, int]:
    """Accept what was right, correct what was wrong; sabotaged, accept what was wrong, and correct what was right by what another
    question's answer is. Returns both counts."""
    accepted = corrected = 0
    async with client(url) as openai:
        for number, one in enumerate(asked):
            accept = one.right != sabotaged
            gold = (asked[number - 1] if sabotaged else one).task.gold[0]
            body = {"id": one.completion_id} | ({"label": "up"} if accept else {"label": "down", "correction": gold})
            await openai.post("/feedback", body=body, cast_to=object)
            accepted, corrected = accepted + accept, corrected + (not accept)
    return accepted, corrected


async def stream_until(url: str, tasks: Sequence[Task], stop: asyncio.Event, *, workers: int = 6) -> list[Streamed]:
    """Stream answers without a pause, on `workers` connections, until `stop` is set; then finish what was begun."""
    seen: list[Streamed] = []
    clock = asyncio.get_running_loop().time
    async with client(url) as openai:

        async def worker(first: int) -> None:
            number = first
            while not stop.is_set():
                task = tasks[number % len(tasks)]
                number += workers
                began, policy, error = clock(), "", None
                try:
                    stream = await openai.chat.completions.create(
                        model=task.agent,
                        messages=[{"role": "user", "content": m.content} for m in task.request],
                        user=f"stream-{first}",
                        max_tokens=MAX_TOKENS,
                        stream=True,
                    )
                    async for chunk in stream:
                        extension = (chunk.model_extra or {}).get("recollect")
                        policy = ", ".join(extension["policies"].values()) if extension else policy
                except OpenAIError as exc:
                    error = f"{type(exc).__name__}: {exc}"
                seen.append(Streamed(began, policy, error))

        await asyncio.gather(*(worker(i) for i in range(workers)))
    return seen
