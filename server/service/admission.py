"""Whose request is answered next when more is asked than can be answered at once.

Places are handed from one answer to the next: tenants take turns, and within a tenant who came first is first. The queue is bounded. When
it is full, whoever waits for the tenant with the longest part of it, last come, gives way to a tenant with less.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from recollect.errors import EngineUnavailable, RecollectError, TooManyRequests

Refusal = Literal["queue_full", "queue_timeout"]
Turn = asyncio.Future[None]


class Admission:
    """The places of one server. Each `take` that succeeded and each `wait` that returned is followed by one `leave`."""

    def __init__(self, *, max_in_flight: int, max_queued: int, timeout_s: float, refused: Callable[[Refusal], None]) -> None:
        """`timeout_s`: how long a request waits at most. `refused` is told of each that is."""
        self._max_in_flight = max_in_flight
        self._max_queued = max_queued
        self._timeout_s = timeout_s
        self._refused = refused
        self._taken = 0
        self._queue: dict[str, deque[Turn]] = {}
        """By tenant, in the order of their turns. While somebody waits, all places are taken."""
        self.queued = 0
        self._waited_s = 0.0
        """By who got a place last."""
        self._closed = False

    @property
    def crowded(self) -> bool:
        """Whether a request that came now would have to wait."""
        return self._taken >= self._max_in_flight or self._closed

    def check_open(self) -> None:
        """For who takes no place. Raises EngineUnavailable once it is closed."""
        if self._closed:
            raise _stopped()

    def take(self) -> bool:
        """A place, if one is free."""
        if self.crowded:
            return False
        self._taken += 1
        return True

    async def wait(self, tenant: str) -> None:
        """A place, when it is the tenant's turn. Raises TooManyRequests, and EngineUnavailable once it is closed."""
        if self._closed:
            raise _stopped()
        if self.queued >= self._max_queued:
            self._make_room(tenant)
        began, loop = time.monotonic(), asyncio.get_running_loop()
        turn: Turn = loop.create_future()
        self._queue.setdefault(tenant, deque()).append(turn)
        self.queued += 1
        late = loop.call_later(self._timeout_s, self._late, tenant, turn)
        try:
            await turn
            self._waited_s = time.monotonic() - began
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(tenant, turn)
            elif turn.exception() is None:  # its turn came as it was given up
                self.leave()
            raise
        finally:
            late.cancel()

    def leave(self) -> None:
        """An answer has ended, or was not begun after all: its place goes to who is next."""
        while self._queue:
            tenant = next(iter(self._queue))
            turn = self._queue[tenant][0]
            self._forget(tenant, turn)
            if tenant in self._queue:
                self._queue[tenant] = self._queue.pop(tenant)  # the others come first now
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1

    def close(self) -> None:
        """The server ends: who waits is sent away, and who comes too."""
        self._closed = True
        for tenant, turns in tuple(self._queue.items()):
            for turn in tuple(turns):
                self._send_away(tenant, turn, _stopped())

    def _make_room(self, tenant: str) -> None:
        """Let the queue have room for one more of the tenant. Raises TooManyRequests if others have no more of it than that one."""
        own = len(self._queue.get(tenant, ()))
        longest = max(self._queue, key=lambda name: len(self._queue[name]), default=tenant)
        self._refused("queue_full")
        full = TooManyRequests(
            f"{self._taken} answers are in progress and {self.queued} requests wait for one to end; try again later",
            retry_after_s=self._retry_after_s,
            code="overloaded",
        )
        if len(self._queue.get(longest, ())) <= own + 1:
            raise full
        self._send_away(longest, self._queue[longest][-1], full)

    def _late(self, tenant: str, turn: Turn) -> None:
        if not turn.done():
            self._waited_s = self._timeout_s
            self._refused("queue_timeout")
            message = f"no answer could be begun within {self._timeout_s:g} s (server.queue_timeout_s); try again later"
            self._send_away(tenant, turn, TooManyRequests(message, retry_after_s=self._retry_after_s, code="overloaded"))

    def _send_away(self, tenant: str, turn: Turn, reason: RecollectError) -> None:
        self._forget(tenant, turn)
        if not turn.done():
            turn.set_exception(reason)

    def _forget(self, tenant: str, turn: Turn) -> None:
        """It waits no more. Nothing is done if it was forgotten before."""
        turns = self._queue.get(tenant)
        if turns is None or turn not in turns:
            return
        turns.remove(turn)
        self.queued -= 1
        if not turns:
            del self._queue[tenant]

    @property
    def _retry_after_s(self) -> int:
        return max(1, math.ceil(self._waited_s))


def _stopped() -> EngineUnavailable:
    return EngineUnavailable("the server is being stopped; ask again", retry_after_s=5)
