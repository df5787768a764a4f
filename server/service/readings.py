"""Readings that take longer than a call may: begun, asked about, given up. What one found is in the log, and outlives the server."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
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
        self._begun: OrderedDict[str, Exchange] = OrderedDict()

    async def begin(self, request: ChatRequest) -> str:
        """Begin to read; the id to ask with. Raises what `Chat.begin` raises, and TooManyRequests."""
        tenant = request.identity.tenant
        running = sum(e.namespace.tenant == tenant and _runs(e) for e in self._begun.values())
        if running >= MAX_RUNNING:
            raise TooManyRequests(f"{running} documents are being read; wait for one, or cancel it", retry_after_s=10)
        exchange = await self._chat.begin(request)
        exchange.delivered()
        self._begun[exchange.trajectory_id] = exchange
        while len(self._begun) > MAX_KEPT and not _runs(next(iter(self._begun.values()))):
            self._begun.popitem(last=False)
        return exchange.trajectory_id

    async def progress(self, reading_id: str, namespace: Namespace, *, wait_s: float = 0.0) -> Progress:
        """How far it is, after it has ended or `wait_s` have passed. Raises NotFound, also for one of another namespace."""
        exchange = self._begun.get(reading_id)
        if exchange is None or exchange.namespace != namespace:
            return await self._logged(reading_id, namespace)
        if exchange.task is not None and wait_s:
            await asyncio.wait({exchange.task}, timeout=wait_s)
        spent = exchange.spent.get(READER)
        sections = spent.calls if spent else 0
        if _runs(exchange):
            return Progress(reading_id, "running", sections)
        if exchange.failure is None:
            return Progress(reading_id, "done", sections, answer=exchange.answer)
        return _ended(reading_id, sections, exchange.failure)

    async def cancel(self, reading_id: str, namespace: Namespace) -> Progress:
        """Stop it. Raises NotFound."""
        exchange = self._begun.get(reading_id)
        if exchange is not None and exchange.namespace == namespace:
            exchange.abandon()
        return await self.progress(reading_id, namespace, wait_s=5.0)

    async def _logged(self, reading_id: str, namespace: Namespace) -> Progress:
        found = await self._known.logged(reading_id, namespace)
        if found is None:
            raise NotFound(f"no reading {reading_id!r}; read_document begins one", param="reading_id", code="reading_not_found")
        sections = sum(step.role == READER for step in found.steps)
        if found.error is None:
            return Progress(reading_id, "done", sections, answer=found.answer)
        return _ended(reading_id, sections, found.error)


def _runs(exchange: Exchange) -> bool:
    return exchange.task is not None and not exchange.task.done()


def _ended(reading_id: str, sections: int, error: str) -> Progress:
    return Progress(reading_id, "cancelled" if error == CLIENT_GONE else "failed", sections, error=error)
