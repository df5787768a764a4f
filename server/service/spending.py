"""What model calls cost today, by agent and role of its module, and whether calls after an answer may still be made.

Kept in one small file of the home, so that a restart does not begin the day anew. It is written at most once a second: a process
that is killed forgets a second's calls of the count, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from recollect.model import Frozen
from recollect.trajectory import Step
from server.service.usage import UsageBook

EVERY_S = 1.0


class Spent(Frozen):
    """Model calls and their tokens."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


class Day(Frozen):
    """One day in UTC. `after_answers`: of all agents together, what was called when the answer had gone out already."""

    day: str = ""
    agents: dict[str, dict[str, Spent]] = Field(default_factory=dict[str, dict[str, Spent]])
    after_answers: Spent = Spent()


class Budget(Frozen):
    """The day's account. 0 as a limit: none. `used_up`: turns are kept as they were said, and no model is called for memory."""

    today: Day
    daily_calls: int
    daily_tokens: int
    used_up: bool


def by_role(steps: Sequence[Step]) -> dict[str, Spent]:
    """What the model calls among the steps cost, by role."""
    found: dict[str, Spent] = {}
    for step in steps:
        if step.policy is not None:
            used = Spent(calls=1, prompt_tokens=step.usage.prompt_tokens, completion_tokens=step.usage.completion_tokens)
            found[step.role] = found.get(step.role, Spent()) + used
    return found


class Spending:
    """The account of one server. `daily_calls`, `daily_tokens`: limits of calls after answers, 0: none."""

    def __init__(self, path: Path, *, daily_calls: int, daily_tokens: int, usage: UsageBook) -> None:
        """`usage` is told whose calls they were."""
        self._path = path
        self._calls, self._tokens = daily_calls, daily_tokens
        self._usage = usage
        self._day = _read(path)
        self._written = 0.0
        self._writing = asyncio.Lock()

    def add(self, agent: str, steps: Sequence[Step], *, after_answer: bool, tenant: str, key_id: str | None = None) -> None:
        """Count the model calls among the steps. `key_id` None: nobody's key asked for them."""
        found = by_role(steps)
        if not found:
            return
        total = sum(found.values(), Spent())
        self._usage.add(tenant, key_id, calls=total.calls, prompt=total.prompt_tokens, completion=total.completion_tokens)
        day = self._today()
        roles = day.agents.get(agent, {})
        agents = {**day.agents, agent: {**roles, **{role: roles.get(role, Spent()) + spent for role, spent in found.items()}}}
        after = day.after_answers + total if after_answer else day.after_answers
        self._day = Day(day=day.day, agents=agents, after_answers=after)

    @property
    def used_up(self) -> bool:
        """Whether no more model calls are to be made after answers today."""
        spent = self._today().after_answers
        return bool((self._calls and spent.calls >= self._calls) or (self._tokens and spent.tokens >= self._tokens))

    @property
    def budget(self) -> Budget:
        """As it stands."""
        return Budget(today=self._today(), daily_calls=self._calls, daily_tokens=self._tokens, used_up=self.used_up)

    async def save(self, *, at_once: bool = False) -> None:
        """Write the file if it was not written in the last second. Raises OSError."""
        if at_once or time.monotonic() - self._written >= EVERY_S:
            self._written = time.monotonic()
            # A write that has begun goes on if its caller is cancelled, and the next one waits for it.
            await asyncio.shield(self._write())

    async def _write(self) -> None:
        async with self._writing:
            await asyncio.to_thread(_write, self._path, self._day)

    def _today(self) -> Day:
        today = datetime.now(UTC).date().isoformat()
        if self._day.day != today:
            self._day = Day(day=today)
        return self._day


def _read(path: Path) -> Day:
    """What was counted last. A file that cannot be read counts as none: it is no record, and the next write replaces it."""
    try:
        return Day.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return Day()


def _write(path: Path, day: Day) -> None:
    aside = path.with_name(f".{path.name}.tmp")
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
        file.write(day.model_dump_json())
    aside.replace(path)
