"""Delegation: what a client's model hands on to others, as `delegation.file` allows, each call in the audit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recollect.errors import EngineError, Forbidden, InvalidRequest, NotFound, RecollectError
from recollect.messages import Message, user
from server.agents.config_hash import config_hash
from server.delegation.audit import Audit, Entry
from server.delegation.images import MAX_BYTES, data_url
from server.delegation.paths import Roots
from server.delegation.plan import Call, Plan
from server.delegation.providers import Providers, ProviderState
from server.delegation.routing import Router, Target, Wish
from server.engines.base import Engine
from server.identity import Identity
from server.service.chat import Chat
from server.service.delegates import Delegates, Task, whole_within
from server.service.ids import new_id
from server.service.worker_files import Worker
from server.service.worker_task import WorkerTask, all_failed
from server.service.workers import Change, Workers


@dataclass(frozen=True, slots=True)
class Thought:
    """An answer: who gave it, and who failed before."""

    answer: str
    target: str
    trajectory_id: str
    failed: tuple[str, ...]


class Delegation:
    """Until `close` it works. Only who is named in the plan may ask, and only for what it allows."""

    def __init__(self, plan: Plan, *, chat: Chat, engine: Engine, alias: str, home: Path, kept: Sequence[Path]) -> None:
        """`kept`: folders of this server that nobody reads. Raises ConfigurationError for a key that is in no environment variable, and
        for a root in what is kept."""
        self.plan = plan
        self._audit = Audit(home / "delegation")
        self._roots = Roots.of(plan.roots, kept)
        self._providers = Providers(plan)
        self._router = Router(plan)
        self._delegates = Delegates(plan, self._providers, chat, engine, alias, self._audit, self._roots)
        self.workers = Workers(home / "workers", plan.workers, self._do)
        """For what is no call of a client: forgetting, and the server's end."""

    @property
    def version(self) -> str:
        """sha256 of the plan."""
        return config_hash("delegation", self.plan.model_dump(mode="json"), {})

    async def close(self) -> None:
        """Interrupt what works, and let go of the connections."""
        await self.workers.close()
        await self._providers.close()

    def admit(self, tenant: str) -> None:
        """Raises Forbidden for a tenant that the plan does not name."""
        if tenant not in self.plan.tenants:
            raise Forbidden("this key's tenant may not delegate; name it under tenants in the file of delegation.file", scope="delegate")

    async def states(self, asker: Identity, own_ready: bool) -> list[ProviderState]:
        """How the providers are. `own_ready`: whether this server's own engine is. Raises Forbidden."""
        async with self._audited(asker, "providers", None):
            return await self._providers.states(own_ready)

    def rests(self, provider: str, model: str) -> bool:
        """Whether a model failed just now, and is passed over."""
        return self._router.rests(Target(provider, model))

    async def think(self, asker: Identity, wish: Wish, task: str, folder: str | None = None) -> Thought:
        """One answer, of the first target that gives it. Raises Forbidden, InvalidRequest, EngineError, Stopped."""
        async with self._audited(asker, "think", "think", wish.chars) as entry:
            _said(task, "task")
            return await self._first(asker, wish, [user(task)], folder, entry)

    async def see(self, asker: Identity, wish: Wish, image: str, question: str) -> Thought:
        """What is in an image: a file under the roots, or a data URL. Raises as `think` does, and NotFound."""
        async with self._audited(asker, "see", "see", wish.chars) as entry:
            content = image if image.startswith("data:") else await asyncio.to_thread(self._image, image)
            messages = [Message(role="user", content="", image=data_url(content)), user(question)]
            return await self._first(asker, wish, messages, None, entry)

    async def spawn(self, asker: Identity, wish: Wish, *, description: str, kind: str, task: str | None, folder: str | None) -> Worker:
        """A worker, at its first task if there is one. Raises Forbidden, InvalidRequest, TooManyRequests."""
        async with self._audited(asker, wish.call, wish.call, wish.chars) as entry:
            if task is not None:
                _said(task, "task")
            if kind and kind not in self.plan.types:
                raise InvalidRequest(f"no type {kind[:80]!r}; there are {', '.join(self.plan.types) or 'none'}", param="type")
            use = wish.use or (self.plan.types[kind].use if kind else "")
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
            worker = await self.workers.send(asker.namespace, worker_id, text, asker.key_id)
            entry["worker_id"] = worker.id
            return worker

    async def wait(self, asker: Identity, worker_id: str, seconds: float) -> Worker:
        """How a worker is, when it has ended or the time has passed. Raises Forbidden, NotFound."""
        async with self._audited(asker, "wait_agent", None) as entry:
            worker = await self.workers.wait(asker.namespace, worker_id, seconds)
            entry["worker_id"] = worker.id
            return worker

    async def listed(self, asker: Identity) -> Sequence[Worker]:
        """The workers of the asker's namespace. Raises Forbidden."""
        async with self._audited(asker, "list_agents", None):
            return await self.workers.list(asker.namespace)

    async def close_worker(self, asker: Identity, worker_id: str) -> Worker:
        """Stop a worker for good. Raises Forbidden, NotFound."""
        async with self._audited(asker, "close_agent", None) as entry:
            worker = await self.workers.close_one(asker.namespace, worker_id)
            entry["worker_id"] = worker.id
            return worker

    def _image(self, named: str) -> bytes:
        if "://" in named:
            raise InvalidRequest("image: send the image itself, as a data URL; nothing is fetched", param="image")
        try:
            return self._roots.bytes_of(self._roots.resolve(named), MAX_BYTES)
        except (InvalidRequest, NotFound) as exc:
            raise InvalidRequest(f"it is no file of at most {MAX_BYTES} bytes that may be looked at", param="image") from exc

    async def _first(self, asker: Identity, wish: Wish, messages: Sequence[Message], folder: str | None, entry: dict[str, Any]) -> Thought:
        task = Task(asker, f"delegate-{new_id()}", tuple(messages), wish.effort, folder=folder)
        deadline = time.monotonic() + self.plan.budget.seconds
        failed: dict[str, str] = {}
        for target in self._router.choose(wish):
            entry["target"] = str(target)
            try:
                exchange = await self._delegates.begin(target, task)
                entry["trajectory_id"] = exchange.trajectory_id
                answer = await whole_within(exchange, max(0.0, deadline - time.monotonic()), target)
            except (EngineError, NotFound, InvalidRequest) as exc:
                self._router.gave_up(target, exc)
                failed[str(target)] = exc.message
                continue
            self._router.answered(target)
            entry["tokens"] = exchange.usage.total_tokens
            return Thought(answer, str(target), exchange.trajectory_id, tuple(failed))
        raise all_failed(failed)

    async def _do(self, worker: Worker, change: Change) -> None:
        task = WorkerTask(worker, change, self.plan, self._router, self._delegates)
        started = time.perf_counter()
        reason = ""
        try:
            await task.run()
        except BaseException as exc:
            reason = _code(exc)
            raise
        finally:
            self._audit.write(
                Entry(
                    call="task",
                    tenant=worker.tenant,
                    key_id=worker.key_id,
                    decision="allowed",
                    reason=reason,
                    target=str(task.target) if task.target else None,
                    worker_id=worker.id,
                    trajectory_id=task.trajectory_id,
                    tokens=task.tokens,
                    duration_s=round(time.perf_counter() - started, 3),
                    ok=not reason,
                )
            )

    @asynccontextmanager
    async def _audited(self, asker: Identity, call: str, needs: Call | None, chars: int | None = None) -> AsyncGenerator[dict[str, Any]]:
        """Refuse what the plan does not allow; write down what was asked, and how it went. `needs`: what must be allowed for it.

        The block fills in what becomes known: target, worker_id, trajectory_id, tokens.
        """
        found: dict[str, Any] = {}
        started = time.perf_counter()
        failure: BaseException | None = None
        try:
            self.admit(asker.tenant)
            if needs is not None and needs not in self.plan.allow:
                raise Forbidden(f"{call} is not allowed; name {needs} under allow in the file of delegation.file", scope="delegate")
            yield found
        except BaseException as exc:
            failure = exc
            raise
        finally:
            self._audit.write(
                Entry(
                    call=call,
                    tenant=asker.tenant,
                    key_id=asker.key_id,
                    decision="denied" if isinstance(failure, Forbidden) else "allowed",
                    reason=_code(failure) if failure is not None else "",
                    chars=chars,
                    duration_s=round(time.perf_counter() - started, 3),
                    ok=failure is None,
                    **found,
                )
            )


def _said(text: str, param: str) -> None:
    if not text.strip():
        raise InvalidRequest("it is blank; say what to do", param=param)


def _code(exc: BaseException) -> str:
    return exc.code if isinstance(exc, RecollectError) else type(exc).__name__
