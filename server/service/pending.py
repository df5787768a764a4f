"""Memory writes that go on after their answer went out: who waits for them, and how long."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from weakref import WeakValueDictionary

from recollect.memory import Namespace


class PendingWrites:
    """Background tasks by namespace. A request of the same namespace waits for them a moment; a shutdown waits longer."""

    def __init__(self) -> None:
        self._tasks: dict[Namespace, set[asyncio.Task[None]]] = {}
        self._locks: WeakValueDictionary[Namespace, asyncio.Lock] = WeakValueDictionary()

    def add(self, namespace: Namespace, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the background. It must not raise."""
        task = asyncio.create_task(work)
        self._tasks.setdefault(namespace, set()).add(task)
        task.add_done_callback(lambda done: self._remove(namespace, done))

    def alone(self, namespace: Namespace) -> asyncio.Lock:
        """The lock under which a namespace's memory is looked at and then written."""
        return self._locks.setdefault(namespace, asyncio.Lock())

    async def settle(self, namespace: Namespace, *, timeout_s: float) -> None:
        """Wait until the namespace's writes are done, at most `timeout_s`."""
        if tasks := self._tasks.get(namespace):
            await asyncio.wait(tuple(tasks), timeout=timeout_s)

    async def close(self, *, timeout_s: float) -> int:
        """Wait for all writes, at most `timeout_s`; cancel the rest. Returns how many were cancelled."""
        tasks = [task for group in self._tasks.values() for task in group]
        if not tasks:
            return 0
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    def __len__(self) -> int:
        return sum(len(group) for group in self._tasks.values())

    def _remove(self, namespace: Namespace, task: asyncio.Task[None]) -> None:
        group = self._tasks[namespace]
        group.discard(task)
        if not group:
            del self._tasks[namespace]
