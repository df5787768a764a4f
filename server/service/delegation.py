"""Delegation: what a client's model hands on to others, as `delegation.file` allows, each call in the audit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from recollect.errors import EngineError, EngineUnavailable, Forbidden, InvalidRequest, NotFound, RecollectError
from recollect.memory import Namespace
from recollect.messages import Message
from server.agents.config_hash import config_hash
from server.delegation.audit import Audit, Entry
from server.delegation.limits import Stopped
from server.delegation.plan import Call, Plan, WorkerType
from server.delegation.providers import Providers, ProviderState
from server.delegation.routing import Router, Target, Wish
from server.engines.base import Engine
from server.identity import Identity
from server.service.chat import Chat
from server.service.delegates import Delegates, Task
from server.service.exchange import Exchange, whole
from server.service.ids import new_id
from server.service.worker_files import Worker
from server.service.workers import Change, Workers


@dataclass(frozen=True, slots=True)
class Thought:
    """An answer: who gave it, and who failed before."""

    answer: str
    target: str
    trajectory_id: str
    failed: tuple[str, ...]


class Delegation:
    """Between `start` and `close` it works. Only who is named in the plan may ask, and only for what it allows."""

    def __init__(self, plan: Plan, *, chat: Chat, engine: Engine, alias: str, home: Path) -> None:
        """Raises ConfigurationError for a key that is in no environment variable."""
        self.plan = plan
        self.audit = Audit(home / "delegation")
        self._providers = Providers(plan)
        self._router = Router(plan)
        self._delegates = Delegates(plan, self._providers, chat, engine, alias, self.audit)
        self.workers = Workers(home / "workers", plan.workers, self._do)

    @property
    def version(self) -> str:
        """sha256 of the plan."""
        return config_hash("delegation", self.plan.model_dump(mode="json"), {})

    async def start(self) -> None:
        """What a server that died left behind is marked as interrupted."""
        await asyncio.to_thread(self.workers.recover)

    async def close(self) -> None:
        """Interrupt what works, and let go of the connections."""
        await self.workers.close()
        await self._providers.close()

    def image(self, named: str) -> bytes:
        """The bytes of an image under the allowed folders. Blocking. Raises InvalidRequest, NotFound."""
        path = self._delegates.roots.resolve(named)
        if not path.is_file():
            raise InvalidRequest(f"{named!r} is no file", param="image")
        return path.read_bytes()

    async def states(self, own_ready: bool) -> list[ProviderState]:
        """How the providers are."""
        return await self._providers.states(own_ready)

    def rests(self, provider: str, model: str) -> bool:
        """Whether a model failed just now, and is passed over."""
        return self._router.rests(Target(provider, model))

    async def think(self, asker: Identity, wish: Wish, messages: Sequence[Message], folder: str | None = None) -> Thought:
        """One answer, of the first target that gives it. Raises Forbidden, InvalidRequest, EngineError."""
        async with self._audited(asker, wish.call, wish.call, wish.chars) as entry:
            task = Task(asker, f"delegate-{new_id()}", tuple(messages), wish.effort, folder=folder)
            failed: dict[str, str] = {}
            for target in self._router.choose(wish):
                entry["target"] = str(target)
                try:
                    thought = await self._asked(target, task, tuple(failed))
                except (EngineError, NotFound) as exc:
                    self._router.failed(target)
                    failed[str(target)] = exc.message
                    continue
                self._router.answered(target)
                entry["trajectory_id"] = thought.trajectory_id
                return thought
            raise _all_failed(failed)

    async def spawn(self, asker: Identity, wish: Wish, *, description: str, kind: str, task: str | None, folder: str | None) -> Worker:
        """A worker, at its first task if there is one. Raises Forbidden, InvalidRequest, TooManyRequests."""
        async with self._audited(asker, wish.call, wish.call, wish.chars) as entry:
            use = wish.use or self._type(kind).use
            self._router.choose(wish._replace(use=use))  # what cannot be done is told now
            worker = Worker(
                id=f"worker_{new_id()}",
                tenant=asker.tenant,
                namespace=str(asker.namespace),
                key_id=asker.key_id,
                description=description,
                type=kind,
                task=wish.task,
                effort=wish.effort,
                use=use,
                folder=folder,
            )
            entry["worker_id"] = worker.id
            return await self.workers.spawn(worker, task)

    async def send(self, asker: Identity, worker_id: str, text: str) -> Worker:
        """Give a worker something to do. Raises Forbidden, NotFound, Conflict, TooManyRequests."""
        async with self._audited(asker, "send_agent_input", "spawn_agent", len(text)) as entry:
            entry["worker_id"] = worker_id
            return await self.workers.send(asker.namespace, worker_id, text)

    async def close_worker(self, asker: Identity, worker_id: str) -> Worker:
        """Stop a worker for good. Raises Forbidden, NotFound."""
        async with self._audited(asker, "close_agent", None, None) as entry:
            entry["worker_id"] = worker_id
            return await self.workers.close_one(asker.namespace, worker_id)

    def admit(self, tenant: str) -> None:
        """Raises Forbidden for a tenant that the plan does not name."""
        if tenant not in self.plan.tenants:
            raise Forbidden("this key's tenant may not delegate; name it under tenants in the file of delegation.file", scope="delegate")

    async def _asked(self, target: Target, task: Task, failed: tuple[str, ...]) -> Thought:
        exchange = await self._delegates.begin(target, task)
        exchange.delivered()
        return Thought(await whole(exchange), str(target), exchange.trajectory_id, failed)

    async def _do(self, worker: Worker, change: Change) -> None:
        """A worker's last task, by the first target that does it: where one fails, the next goes on with its conversation."""
        asker = Identity(worker_namespace(worker), worker.key_id)
        if worker.tokens >= self.plan.budget.tokens:
            raise Stopped(f"the worker has used its {self.plan.budget.tokens} tokens; spawn another", reason="tokens")
        said = worker.messages[-1].content
        wish = Wish("spawn_agent", len(said), worker.task, worker.effort, worker.use)
        kind = self._type(worker.type)
        kept = list(worker.messages)
        thread = [worker.thread]
        used, trajectories = worker.tokens, list(worker.trajectories)
        failed: dict[str, str] = {}

        async def advanced(messages: Sequence[Message]) -> None:
            kept[:] = messages
            await change(messages=kept)

        for target in self._router.choose(wish):
            await change(target=str(target))
            task = Task(
                asker, worker.id, tuple(kept), worker.effort, worker.id, kind.instructions, kind.tools, used, worker.folder, thread[0],
                advanced, lambda found: thread.__setitem__(0, found),
            )  # fmt: skip
            exchange: Exchange | None = None
            try:
                exchange = await self._delegates.begin(target, task)
                exchange.delivered()
                answer = await whole(exchange)
            except (EngineError, NotFound) as exc:
                self._router.failed(target)
                failed[str(target)] = exc.message
                continue
            finally:
                if exchange is not None:
                    used += exchange.usage.total_tokens
                    trajectories.append(exchange.trajectory_id)
                    await change(tokens=used, trajectories=trajectories, thread=thread[0])
            self._router.answered(target)
            await change(messages=[*kept, Message(role="assistant", content=answer)], answer=answer)
            return
        raise _all_failed(failed)

    def _type(self, name: str) -> WorkerType:
        if not name:
            return WorkerType(instructions="")
        if name not in self.plan.types:
            raise InvalidRequest(f"no type {name!r}; there are {', '.join(self.plan.types) or 'none'}", param="type")
        return self.plan.types[name]

    @asynccontextmanager
    async def _audited(self, asker: Identity, call: str, needs: Call | None, chars: int | None) -> AsyncGenerator[dict[str, str]]:
        """Refuse what the plan does not allow; write down what was asked, and how it went. `needs`: what must be allowed for it."""
        found: dict[str, str] = {}
        started = time.perf_counter()

        def entry(reason: str, *, denied: bool = False) -> Entry:
            return Entry(
                call=call,
                tenant=asker.tenant,
                key_id=asker.key_id,
                decision="denied" if denied else "allowed",
                reason=reason,
                chars=chars,
                duration_s=round(time.perf_counter() - started, 3),
                ok=not reason,
                target=found.get("target"),
                worker_id=found.get("worker_id"),
                trajectory_id=found.get("trajectory_id"),
            )

        try:
            self.admit(asker.tenant)
            if needs is not None and needs not in self.plan.allow:
                raise Forbidden(f"{call} is not allowed; name {needs} under allow in the file of delegation.file", scope="delegate")
            yield found
        except BaseException as exc:
            self.audit.write(entry(exc.code if isinstance(exc, RecollectError) else type(exc).__name__, denied=isinstance(exc, Forbidden)))
            raise
        self.audit.write(entry(""))


def _all_failed(failed: Mapping[str, str]) -> EngineUnavailable:
    return EngineUnavailable("; ".join(f"{target}: {said}" for target, said in failed.items()), retry_after_s=10)


def worker_namespace(worker: Worker) -> Namespace:
    """Whose memory a worker has."""
    return Namespace.parse(worker.namespace, tenant=worker.tenant)
