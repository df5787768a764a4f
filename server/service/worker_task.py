"""One task of a worker: done by the first target that can, in what is left of its budget, and each step written down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from recollect.errors import EngineError, EngineUnavailable, InvalidRequest, NotFound, TooManyRequests
from recollect.memory import Namespace
from recollect.messages import Message, last_user_text
from server.delegation.limits import Stopped
from server.delegation.plan import Plan, WorkerType
from server.delegation.routing import Router, Target, Wish
from server.identity import Identity
from server.service.delegates import Delegates, Task, whole_within
from server.service.exchange import Exchange
from server.service.worker_files import Worker
from server.service.workers import Change


class WorkerTask:
    """`target`, `trajectory_id` and `tokens` tell how far it came."""

    def __init__(self, worker: Worker, change: Change, plan: Plan, router: Router, delegates: Delegates) -> None:
        self._worker = worker
        self._change = change
        self._plan = plan
        self._router = router
        self._delegates = delegates
        self._messages = list(worker.messages)
        self._thread = worker.thread
        self._trajectories = list(worker.trajectories)
        self._failed: dict[str, str] = {}
        self.target: Target | None = None
        self.trajectory_id: str | None = None
        self.tokens = 0

    async def run(self) -> None:
        """Where one target fails, the next goes on with the conversation. Raises RecollectError."""
        worker, budget = self._worker, self._plan.budget
        if worker.tokens >= budget.tokens:
            raise Stopped(f"the worker has used its {budget.tokens} tokens; spawn another or raise budget.tokens", reason="tokens")
        deadline = asyncio.get_running_loop().time() + budget.seconds
        wish = Wish("spawn_agent", len(last_user_text(worker.messages)), worker.task, worker.effort, worker.use)
        for target in self._router.choose(wish):
            try:
                answer = await self._admitted(target, deadline)
            except (EngineError, NotFound, InvalidRequest) as exc:
                self._router.gave_up(target, exc)
                self._failed[str(target)] = exc.message
                continue
            self._router.answered(target)
            await self._change({"messages": [*self._messages, Message(role="assistant", content=answer)], "answer": answer})
            return
        raise all_failed(self._failed)

    async def _admitted(self, target: Target, deadline: float) -> str:
        """The answer. Where there is no room for it now, it waits for that, within its time."""
        while True:
            try:
                return await self._attempt(target, deadline - asyncio.get_running_loop().time())
            except TooManyRequests as exc:
                if asyncio.get_running_loop().time() + exc.retry_after_s > deadline:
                    raise
                await asyncio.sleep(exc.retry_after_s)

    async def _attempt(self, target: Target, seconds: float) -> str:
        self.target = target
        exchange = await self._delegates.begin(target, self._task())
        self.trajectory_id = exchange.trajectory_id
        self._trajectories.append(exchange.trajectory_id)
        used = self.tokens
        try:
            await self._change({"target": str(target), "trajectories": self._trajectories})
            return await whole_within(exchange, max(seconds, 0.0), target)
        finally:
            await self._count(exchange, used)

    async def _count(self, exchange: Exchange, used: int) -> None:
        self.tokens = used + exchange.usage.total_tokens
        await self._change({"tokens": self._worker.tokens + self.tokens})

    def _task(self) -> Task:
        worker = self._worker
        kind = self._plan.types.get(worker.type) or WorkerType(instructions="")
        return Task(
            asker=Identity(Namespace.parse(worker.namespace, tenant=worker.tenant), worker.key_id),
            session=worker.id,
            messages=tuple(self._messages),
            effort=worker.effort,
            worker_id=worker.id,
            instructions=kind.instructions,
            tools=kind.tools,
            tokens_used=worker.tokens + self.tokens,
            folder=worker.folder,
            thread=self._thread,
            advanced=self._advanced,
            began=self._began,
        )

    async def _advanced(self, messages: Sequence[Message]) -> None:
        self._messages = list(messages)
        await self._change({"messages": self._messages})

    async def _began(self, thread: str) -> None:
        self._thread = thread
        await self._change({"thread": thread})


def all_failed(failed: Mapping[str, str]) -> EngineUnavailable:
    """Nobody answered; what each said."""
    return EngineUnavailable("; ".join(f"{target}: {said}" for target, said in failed.items()), retry_after_s=10)
