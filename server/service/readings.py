"""Readings that take longer than a call may: begun, asked about, given up. What one found is in the log, and outlives the server."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from typing import Literal, NamedTuple

from recollect.errors import NotFound, TooManyRequests
from recollect.memory import Namespace
from server.service.chat import Chat, ChatRequest
from server.service.exchange import CLIENT_GONE, Exchange
from server.service.known import KnownTrajectories

MAX_RUNNING = 8
"""Of one tenant."""
MAX_KEPT = 256
READER = "reader"


class Progress(NamedTuple):
    """How far a reading is; `sections` are those read so far, or all of them."""

    id: str
    status: Literal["running", "done", "failed", "cancelled"]
    sections: int
    answer: str | None = None
    error: str | None = None


class Readings:
    """Those that this process began. Of others the log knows the end."""

    def __init__(self, chat: Chat, known: KnownTrajectories) -> None:
        self._chat = chat
        self._known = known
        self._running: dict[str, Exchange] = {}
        self._ended: OrderedDict[str, tuple[Namespace, Progress]] = OrderedDict()
        self._begun: Counter[str] = Counter()
        """By tenant, those that are running or about to."""

    async def begin(self, request: ChatRequest) -> str:
        """Begin to read; the id to ask with. Raises what `Chat.begin` raises, and TooManyRequests."""
        tenant = request.identity.tenant
        if self._begun[tenant] >= MAX_RUNNING:
            raise TooManyRequests(f"{MAX_RUNNING} documents are being read; wait for one, or cancel it", retry_after_s=10)
        self._begun[tenant] += 1
        try:
            exchange = await self._chat.begin(request, any_length=True)
        except BaseException:
            self._begun[tenant] -= 1
            raise
        exchange.delivered()
        self._running[exchange.trajectory_id] = exchange
        assert exchange.task is not None
        exchange.task.add_done_callback(lambda _: self._end(exchange))
        return exchange.trajectory_id

    async def progress(self, reading_id: str, namespace: Namespace, *, wait_s: float = 0.0) -> Progress:
        """How far it is, after it has ended or `wait_s` have passed. Raises NotFound, also for one of another namespace."""
        running = self._running.get(reading_id)
        if running is not None and running.namespace == namespace:
            if running.task is not None and wait_s:
                await asyncio.wait({running.task}, timeout=wait_s)
            if running.task is not None and running.task.done():
                self._end(running)
            else:
                return Progress(reading_id, "running", _sections(running))
        where, ended = self._ended.get(reading_id, (None, None))
        return ended if ended is not None and where == namespace else await self._logged(reading_id, namespace)

    async def cancel(self, reading_id: str, namespace: Namespace) -> Progress:
        """Stop it. Raises NotFound."""
        exchange = self._running.get(reading_id)
        if exchange is not None and exchange.namespace == namespace:
            exchange.abandon()
        return await self.progress(reading_id, namespace, wait_s=5.0)

    async def forget(self, namespace: Namespace) -> None:
        """Stop what is being read in a namespace, and keep nothing of what was."""
        going = [exchange for exchange in self._running.values() if exchange.namespace == namespace]
        for exchange in going:
            exchange.abandon()
        if tasks := {exchange.task for exchange in going if exchange.task is not None}:
            await asyncio.wait(tasks)
        for exchange in going:
            self._end(exchange)
        for reading_id in [one for one, (where, _) in self._ended.items() if where == namespace]:
            del self._ended[reading_id]

    def _end(self, exchange: Exchange) -> None:
        """Keep what it found and no more of it: a document may be large. Called again it does nothing."""
        if self._running.pop(exchange.trajectory_id, None) is None:
            return
        self._begun[exchange.namespace.tenant] -= 1
        reading_id, sections, failure = exchange.trajectory_id, _sections(exchange), exchange.failure
        done = Progress(reading_id, "done", sections, answer=exchange.answer)
        self._ended[reading_id] = (exchange.namespace, done if failure is None else _ended(reading_id, sections, failure))
        if len(self._ended) > MAX_KEPT:
            self._ended.popitem(last=False)

    async def _logged(self, reading_id: str, namespace: Namespace) -> Progress:
        found = await self._known.logged(reading_id, namespace)
        if found is None:
            raise NotFound(f"no reading {reading_id!r}; read_document begins one", param="reading_id", code="reading_not_found")
        sections = sum(step.role == READER for step in found.steps)
        if found.error is None:
            return Progress(reading_id, "done", sections, answer=found.answer)
        return _ended(reading_id, sections, found.error)


def _sections(exchange: Exchange) -> int:
    spent = exchange.spent.get(READER)
    return spent.calls if spent else 0


def _ended(reading_id: str, sections: int, error: str) -> Progress:
    return Progress(reading_id, "cancelled" if error == CLIENT_GONE else "failed", sections, error=error)
