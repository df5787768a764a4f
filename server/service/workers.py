"""Workers: tasks that go on after the call that began them. Each is on disk after every step, and outlives the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from recollect.errors import Conflict, EngineUnavailable, InvalidRequest, RecollectError, TooManyRequests
from recollect.memory import Namespace
from recollect.messages import user
from recollect.tools import texts_in
from recollect.trajectory import now
from server.delegation.plan import Limits
from server.service.exchange import defect
from server.service.worker_files import Worker, WorkerFiles

logger = logging.getLogger(__name__)
ENDED = "the server ended; send_agent_input goes on with it"
FORGOTTEN = "it was stopped while something was forgotten; send_agent_input goes on with it"

Change = Callable[[Mapping[str, Any]], Awaitable[None]]
Work = Callable[[Worker, Change], Awaitable[None]]
"""Does what a worker was asked last, and changes it as it goes on: messages, answer, target, tokens. Raises RecollectError."""


@dataclass(slots=True, eq=False)
class _Run:
    """A worker that works in this process. What it is now stands here; the file follows."""

    worker: Worker
    task: asyncio.Task[None] | None = None
    ends: str = ""
    """Why it is being stopped; empty for one that is closed."""


class Workers:
    """The workers of a home. What changes one is done alone: looked at, decided and written down under its lock."""

    def __init__(self, root: Path, limits: Limits, work: Work) -> None:
        self._files = WorkerFiles(root)
        self._limits = limits
        self._work = work
        self._running: dict[str, _Run] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._closed = False

    async def spawn(self, worker: Worker, task: str | None) -> Worker:
        """Make one, and give it its first task if there is one. Raises TooManyRequests, StorageFull."""
        async with self._alone(worker.id):
            if task is None:
                await self._save(worker)
            else:
                worker = await self._begin(worker, [task])
        await asyncio.to_thread(self._prune, worker.tenant)
        return worker

    async def send(self, namespace: Namespace, worker_id: str, text: str, key_id: str | None) -> Worker:
        """Give it something to do; one that works does it next, one that was interrupted goes on. Raises NotFound, Conflict."""
        async with self._alone(worker_id):
            worker = await self.get(namespace, worker_id)
            run = self._running.get(worker_id)
            if worker.state == "closed":
                raise Conflict(f"{worker_id} was closed; spawn_agent makes another", param="worker_id")
            if not text.strip() and worker.state != "interrupted":
                raise InvalidRequest("text is empty; say what to do, or wait_agent", param="text")
            inbox = [*worker.inbox, *([text] if text.strip() else [])]
            if run is None:
                return await self._begin(worker.model_copy(update={"key_id": key_id}), inbox)
            return await self._change(run, {"inbox": inbox, "key_id": key_id})

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
        return self._seen(await asyncio.to_thread(self._files.get, namespace, worker_id))

    async def list(self, namespace: Namespace) -> Sequence[Worker]:
        """Those of a namespace, newest first."""
        found = await asyncio.to_thread(self._files.list, namespace.tenant)
        return [self._seen(worker) for worker in found if worker.namespace == str(namespace)]

    async def close_one(self, namespace: Namespace, worker_id: str) -> Worker:
        """Stop it for good. Raises NotFound."""
        await self.get(namespace, worker_id)
        while True:
            if run := self._running.get(worker_id):
                await self._stop(run, "")
            async with self._alone(worker_id):
                if worker_id in self._running:  # somebody sent it something meanwhile
                    continue
                worker = await self.get(namespace, worker_id)
                worker = worker.model_copy(update={"state": "closed", "inbox": [], "error": "", "updated_at": now()})
                await self._save(worker)
                return worker

    async def interrupt(self, tenant: str, namespace: Namespace | None = None) -> None:
        """Stop what works for a tenant, or in one namespace, while something of it is forgotten."""
        where = None if namespace is None else str(namespace)
        await self._stop_all(lambda worker: worker.tenant == tenant and where in (None, worker.namespace), FORGOTTEN)

    async def forget(self, tenant: str, namespace: str | None, trajectories: set[str], texts: set[str]) -> None:
        """Remove workers of a tenant: those of `namespace`, and those that hold one of the trajectories or texts. "*": all of them.

        Raises RecollectError for one that cannot be read, and so cannot be said to hold nothing.
        """

        def chosen(worker: Worker) -> bool:
            if namespace == worker.namespace or trajectories & set(worker.trajectories):
                return True
            messages = [message.content for message in worker.messages]
            calls = [text for message in worker.messages for call in message.tool_calls for text in texts_in(call.arguments)]
            said = "\n".join([*messages, *calls, *worker.inbox, worker.answer, worker.description, worker.error])
            return any(text in said for text in texts)

        if namespace == "*":
            await self._stop_all(lambda worker: worker.tenant == tenant, FORGOTTEN)
            await asyncio.to_thread(self._files.drop, tenant)
            return
        await self._stop_all(lambda worker: worker.tenant == tenant and chosen(worker), FORGOTTEN)
        await asyncio.to_thread(self._files.forget, tenant, chosen)

    async def close(self) -> None:
        """The server ends: what works is interrupted, and nothing is begun any more."""
        self._closed = True
        await self._stop_all(lambda _: True, ENDED)

    def _alone(self, worker_id: str) -> asyncio.Lock:
        return self._locks.setdefault(worker_id, asyncio.Lock())

    def _seen(self, worker: Worker) -> Worker:
        """A worker as it is: one that works in no process any more is interrupted, whatever its file says."""
        if run := self._running.get(worker.id):
            return run.worker
        if worker.state != "running":
            return worker
        return worker.model_copy(update={"state": "interrupted", "error": ENDED})

    async def _stop_all(self, chosen: Callable[[Worker], bool], reason: str) -> None:
        await asyncio.gather(*(self._stop(run, reason) for run in list(self._running.values()) if chosen(run.worker)))

    async def _stop(self, run: _Run, reason: str) -> None:
        async with self._alone(run.worker.id):  # it may be about to begin
            run.ends = reason
            if run.task is not None:
                run.task.cancel()
        if run.task is not None:
            await asyncio.wait({run.task})

    async def _begin(self, worker: Worker, inbox: list[str]) -> Worker:
        """Under its lock."""
        if self._closed:
            raise EngineUnavailable("the server is being stopped; ask again")
        count = sum(run.worker.tenant == worker.tenant for run in self._running.values())
        if count >= self._limits.running:
            raise TooManyRequests(f"{count} workers are at work; wait_agent for one, or close_agent", retry_after_s=10)
        run = self._running[worker.id] = _Run(worker)
        try:
            await self._change(run, {"state": "running", "inbox": inbox, "error": "", "answer": ""})
        except BaseException:
            self._ended(run)
            raise
        run.task = asyncio.create_task(self._live(run), name=worker.id)
        run.task.add_done_callback(lambda _: self._ended(run))
        return run.worker

    def _ended(self, run: _Run) -> None:
        if self._running.get(run.worker.id) is run:
            del self._running[run.worker.id]

    async def _change(self, run: _Run, values: Mapping[str, Any]) -> Worker:
        """Under its lock: change it and write it down; durable when this returns."""
        worker = run.worker.model_copy(update={**values, "updated_at": now()})
        await self._save(worker)
        run.worker = worker
        return worker

    async def _save(self, worker: Worker) -> None:
        # A write that has begun is waited for, also by who is cancelled: else it would end after what is written next.
        saving = asyncio.ensure_future(asyncio.to_thread(self._files.save, worker))
        try:
            await asyncio.shield(saving)
        except asyncio.CancelledError:
            await asyncio.wait({saving})
            raise

    async def _live(self, run: _Run) -> None:
        try:
            while await self._next(run):
                await self._work(run.worker, lambda values: self._changed(run, values))
        except asyncio.CancelledError:
            if run.ends:
                await self._end(run, "interrupted", run.ends)
        except RecollectError as exc:
            await self._end(run, "failed", exc.message)
        except Exception as exc:  # noqa: BLE001
            # The boundary of a worker, which nobody awaits: a defect is logged without what was said, and the worker says so.
            logger.error("worker %s failed: %s", run.worker.id, defect(exc))
            await self._end(run, "failed", "the server failed; its log names the defect")

    async def _changed(self, run: _Run, values: Mapping[str, Any]) -> None:
        async with self._alone(run.worker.id):
            await self._change(run, values)

    async def _next(self, run: _Run) -> bool:
        """Take what it was sent into its conversation. False: there is nothing, and it is done."""
        async with self._alone(run.worker.id):
            worker = run.worker
            fresh = not worker.inbox and not worker.answer  # it was interrupted, and goes on with what it has
            if not worker.inbox and not (fresh and worker.messages):
                await self._change(run, {"state": "done"})
                self._ended(run)  # before the lock is let go: what comes now begins anew
                return False
            messages = [*worker.messages, *(user(text) for text in worker.inbox)]
            await self._change(run, {"messages": messages, "inbox": [], "answer": ""})
            return True

    async def _end(self, run: _Run, state: str, error: str) -> None:
        try:
            await self._changed(run, {"state": state, "error": error})
        except (RecollectError, OSError) as exc:
            logger.warning("worker %s: its end could not be written down: %s", run.worker.id, exc)

    def _prune(self, tenant: str) -> None:
        for worker in self._files.list(tenant)[self._limits.kept :]:
            if worker.id not in self._running:
                self._files.delete(worker)
