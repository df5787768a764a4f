"""Sessions that an agent reflects on when they end: by `X-Session-Done`, or after some idle minutes. One file each in the home.

The file is there before the answer, so that a session which was open when the process died ends after the next start. What is done
at its end is done in the background, a session at a time, and tried again a bounded number of times.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from recollect.errors import InvalidRequest, RecollectError
from recollect.log_files import full_disk_named
from recollect.memory import Namespace
from recollect.model import Frozen

logger = logging.getLogger(__name__)

MAX_TRIES = 5
FIRST_WAIT_S = 60.0
LONGEST_POLL_S = 30.0


class OpenSession(Frozen):
    """A session with turns that were not reflected on yet. `at`: its last turn. `again`: when it is to be tried once more."""

    tenant: str
    namespace: str
    session: str
    agent: str
    at: datetime
    done: bool = False
    tries: int = 0
    again: datetime | None = None

    def ends(self, idle: timedelta) -> datetime:
        """When it is due."""
        return self.again or (self.at if self.done else self.at + idle)

    @property
    def name(self) -> str:
        """Of its file."""
        key = "\n".join((self.tenant, self.namespace, self.session, self.agent))
        return f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    @property
    def where(self) -> Namespace:
        return Namespace.parse(self.namespace, tenant=self.tenant)


End = Callable[[OpenSession], Awaitable[None]]
"""What is done when a session has ended. Raises RecollectError: then it is tried again."""


class Sessions:
    """The open sessions of one home. `idle`: how long after its last turn a session ends. Only one process may watch a home."""

    def __init__(self, folder: Path, idle: timedelta) -> None:
        self._folder = folder
        self._idle = idle
        self._open = {one.name: one for one in _read(folder)}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    async def touch(self, namespace: Namespace, session: str, agent: str, *, done: bool) -> None:
        """A turn of a session begins; `done`: it is the last one. Returns when that is on the disk. Raises StorageFull, OSError."""
        one = OpenSession(tenant=namespace.tenant, namespace=str(namespace), session=session, agent=agent, at=datetime.now(UTC), done=done)
        await self._keep(one)
        self._changed.set()

    async def forget(self, chosen: Callable[[OpenSession], bool]) -> None:
        """Remove the sessions of which `chosen` holds: what was said in them is forgotten."""
        for one in [one for one in self._open.values() if chosen(one)]:
            await self._drop(one)

    async def watch(self, end: End) -> None:
        """End what is due, for ever: one session at a time."""
        while True:
            self._changed.clear()
            for one in sorted(self._due(), key=lambda one: one.at):
                await self._ended(one, end)
            try:
                await asyncio.wait_for(self._changed.wait(), self._poll_s)
            except TimeoutError:
                continue

    @property
    def _poll_s(self) -> float:
        return min(LONGEST_POLL_S, max(0.05, self._idle.total_seconds() / 4))

    def _due(self) -> list[OpenSession]:
        now = datetime.now(UTC)
        # A last turn that lies in the future was written under another clock: it is no reason to wait for ever.
        return [one for one in self._open.values() if one.ends(self._idle) <= now or one.at > now + self._idle]

    async def _ended(self, one: OpenSession, end: End) -> None:
        try:
            await end(one)
        except InvalidRequest as exc:  # the agent is no more, or does not reflect: trying again changes nothing
            logger.warning("the session of a %s agent was not reflected on: %s", one.agent, exc.message)
        except RecollectError as exc:
            await self._again(one, exc)
            return
        if self._open.get(one.name) == one:  # else a turn came meanwhile, and the session is open again
            await self._drop(one)

    async def _again(self, one: OpenSession, exc: RecollectError) -> None:
        if self._open.get(one.name) != one:
            return
        if one.tries + 1 >= MAX_TRIES:
            logger.warning("reflecting on a session failed %d times and is given up: %s", MAX_TRIES, exc.message)
            await self._drop(one)
            return
        again = datetime.now(UTC) + timedelta(seconds=FIRST_WAIT_S * 2**one.tries)
        await self._keep(one.model_copy(update={"again": again, "tries": one.tries + 1}))

    async def _keep(self, one: OpenSession) -> None:
        await asyncio.to_thread(_write, self._folder, one)
        self._open[one.name] = one

    async def _drop(self, one: OpenSession) -> None:
        self._open.pop(one.name, None)
        await asyncio.to_thread((self._folder / one.name).unlink, missing_ok=True)


def _read(folder: Path) -> list[OpenSession]:
    found: list[OpenSession] = []
    for file in sorted(folder.glob("*.json")):
        try:
            found.append(OpenSession.model_validate_json(file.read_bytes()))
        except ValidationError:
            logger.warning("%s is no open session, and is passed over", file.name)
    return found


def _write(folder: Path, one: OpenSession) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = folder / f".{one.name}.tmp"
    with full_disk_named("the session could not be noted"):
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
            file.write(one.model_dump_json())
        aside.replace(folder / one.name)
