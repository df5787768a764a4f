"""Workers: tasks that go on after the call that began them. Each is on disk after every step, and outlives the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recollect.errors import Conflict, InvalidRequest, RecollectError, TooManyRequests
from recollect.memory import Namespace
from recollect.messages import Message, user
from recollect.trajectory import now
from server.delegation.plan import Limits
from server.service.exchange import defect
from server.service.worker_files import Worker, WorkerFiles

logger = logging.getLogger(__name__)
ENDED = "the server ended; send_agent_input goes on with it"
FORGOTTEN = "it was stopped while something was forgotten; send_agent_input goes on with it"
RESUMED = "Go on with the task where it was interrupted."

Change = Callable[..., Awaitable[None]]
Work = Callable[[Worker, Change], Awaitable[None]]
"""Does what a worker was asked last, and changes it as it goes on: messages, answer, target, tokens. Raises RecollectError."""


@dataclass(slots=True, eq=False)
class _Run:
    """A worker that works in this process. What it is now stands here; the file follows."""

    worker: Worker
    files: WorkerFiles
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    task: asyncio.Task[None] | None = None
    ends: str = ""
    """Why it is being stopped; empty for one that is closed."""

    async def change(self, **values: Any) -> None:
        """Change it and write it down; durable when this returns."""
        async with self.lock:
            self.worker = self.worker.model_copy(update={**values, "updated_at": now()})
            await asyncio.to_thread(self.files.save, self.worker)


class Workers:
    """The workers of a home. `recover` before the first call."""

    def __init__(self, root: Path, limits: Limits, work: Work) -> None:
        self._files = WorkerFiles(root)
        self._limits = limits
        self._work = work
        self._running: dict[str, _Run] = {}

    def recover(self) -> None:
        """Workers that a server left behind when it died are interrupted. Blocking; one server at a time owns a home."""
        for tenant in self._files.tenants():
            for worker in self._files.list(tenant):
                if worker.state == "running":
                    self._files.save(worker.model_copy(update={"state": "interrupted", "error": ENDED}))

    async def spawn(self, worker: Worker, task: str | None) -> Worker:
        """Make one, and give it its first task if there is one. Raises TooManyRequests, StorageFull."""
        if task is not None:
            self._check_running(worker.tenant)
        await asyncio.to_thread(self._files.save, worker)
        await asyncio.to_thread(self._prune, worker.tenant)
        return worker if task is None else await self._begin(worker, task)

    async def send(self, namespace: Namespace, worker_id: str, text: str) -> Worker:
        """Give it something to do; one that works does it next, one that was interrupted goes on. Raises NotFound, Conflict."""
        run = self._running.get(worker_id)
        if run is not None and run.worker.namespace == str(namespace) and run.worker.tenant == namespace.tenant:
            if not text.strip():
                raise InvalidRequest("it is working; say something, or wait_agent", param="text")
            await run.change(inbox=[*run.worker.inbox, text])
            return run.worker
        worker = await asyncio.to_thread(self._files.get, namespace, worker_id)
        if worker.state == "closed":
            raise Conflict(f"{worker_id} was closed; spawn_agent makes another", param="worker_id")
        if not text.strip() and worker.state != "interrupted":
            raise InvalidRequest("text is empty; say what to do", param="text")
        self._check_running(worker.tenant)
        return await self._begin(worker, text if text.strip() else RESUMED)

    async def wait(self, namespace: Namespace, worker_id: str, timeout_s: float) -> Worker:
        """How it is, after it has ended or the time has passed. Raises NotFound."""
        worker = await self.get(namespace, worker_id)
        run = self._running.get(worker_id)
        if run is None or run.task is None:
            return worker
        await asyncio.wait({run.task}, timeout=timeout_s)
        return await self.get(namespace, worker_id)

    async def get(self, namespace: Namespace, worker_id: str) -> Worker:
        """How it is now. Raises NotFound."""
        run = self._running.get(worker_id)
        if run is not None and (run.worker.tenant, run.worker.namespace) == (namespace.tenant, str(namespace)):
            return run.worker
        return await asyncio.to_thread(self._files.get, namespace, worker_id)

    async def list(self, namespace: Namespace) -> Sequence[Worker]:
        """Those of a namespace, newest first."""
        found = await asyncio.to_thread(self._files.list, namespace.tenant)
        now_running = {key: run.worker for key, run in self._running.items()}
        return [now_running.get(worker.id, worker) for worker in found if worker.namespace == str(namespace)]

    async def close_one(self, namespace: Namespace, worker_id: str) -> Worker:
        """Stop it for good. Raises NotFound."""
        worker = await self.get(namespace, worker_id)
        if run := self._running.get(worker_id):
            await self._stop([run], "")
            worker = run.worker
        worker = worker.model_copy(update={"state": "closed", "inbox": [], "updated_at": now()})
        await asyncio.to_thread(self._files.save, worker)
        return worker

    async def forget(self, tenant: str, namespace: str | None, trajectories: set[str], texts: set[str]) -> None:
        """Remove workers of a tenant: those of `namespace`, of which "*" is any, and those that hold one of the trajectories or texts."""

        def chosen(worker: Worker) -> bool:
            if namespace in ("*", worker.namespace) or trajectories & set(worker.trajectories):
                return True
            said = "\n".join([*(message.content for message in worker.messages), *worker.inbox, worker.answer])
            return any(text in said for text in texts)

        await self._stop([run for run in self._running.values() if run.worker.tenant == tenant and chosen(run.worker)], FORGOTTEN)
        await asyncio.to_thread(self._files.forget, tenant, chosen)

    async def interrupt(self, namespace: Namespace) -> None:
        """Stop what works in a namespace while something of it is forgotten."""
        where = (namespace.tenant, str(namespace))
        await self._stop([run for run in self._running.values() if (run.worker.tenant, run.worker.namespace) == where], FORGOTTEN)

    async def close(self) -> None:
        """The server ends: what works is interrupted."""
        await self._stop(list(self._running.values()), ENDED)

    async def _stop(self, runs: Sequence[_Run], reason: str) -> None:
        tasks = {run.task for run in runs if run.task is not None}
        for run in runs:
            run.ends = reason
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _begin(self, worker: Worker, text: str) -> Worker:
        run = _Run(worker, self._files)
        self._running[worker.id] = run
        try:
            await run.change(state="running", inbox=[*worker.inbox, text], error="", answer="")
        except BaseException:
            del self._running[worker.id]
            raise
        run.task = asyncio.create_task(self._live(run), name=worker.id)
        return run.worker

    async def _live(self, run: _Run) -> None:
        try:
            await self._tasks(run)
        except asyncio.CancelledError:
            if run.ends:
                await run.change(state="interrupted", error=run.ends)
        except RecollectError as exc:
            await self._fail(run, exc.message)
        except Exception as exc:  # noqa: BLE001
            # The boundary of a worker, which nobody awaits: a defect is logged without what was said, and the worker says so.
            logger.error("worker %s failed: %s", run.worker.id, defect(exc))
            await self._fail(run, "the server failed; its log names the defect")
        finally:
            self._running.pop(run.worker.id, None)

    async def _tasks(self, run: _Run) -> None:
        while True:
            messages: list[Message] = [*run.worker.messages, *(user(text) for text in run.worker.inbox)]
            await run.change(messages=messages, inbox=[])
            await self._work(run.worker, run.change)
            if not run.worker.inbox:
                await run.change(state="done")
            if not run.worker.inbox:  # what came while that was written down is done too
                return
            await run.change(state="running")

    async def _fail(self, run: _Run, error: str) -> None:
        try:
            await run.change(state="failed", error=error)
        except (RecollectError, OSError) as exc:
            logger.warning("worker %s: its end could not be written down: %s", run.worker.id, exc)

    def _check_running(self, tenant: str) -> None:
        count = sum(run.worker.tenant == tenant for run in self._running.values())
        if count >= self._limits.running:
            raise TooManyRequests(f"{count} workers are at work; wait_agent for one, or close_agent", retry_after_s=10)

    def _prune(self, tenant: str) -> None:
        kept = [worker for worker in self._files.list(tenant) if worker.id not in self._running]
        for worker in kept[self._limits.kept :]:
            self._files.delete(worker)
