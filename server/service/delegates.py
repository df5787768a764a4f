"""One task handed on: the agent for a target is made, and its answer is an exchange like any other, in the log and in the limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recollect.errors import InvalidRequest
from recollect.messages import Message
from server.agents.base import Agent
from server.delegation.audit import Audit, Entry
from server.delegation.codex import CodexDelegate, folder_of
from server.delegation.limits import Stopped
from server.delegation.loop import Delegate
from server.delegation.paths import Roots
from server.delegation.plan import CodexProvider, Effort, OwnProvider, Plan
from server.delegation.providers import Providers
from server.delegation.routing import Target
from server.delegation.toolbox import Outcome, Toolbox
from server.engines.base import Engine
from server.identity import Identity
from server.service.chat import Chat, ChatRequest
from server.service.exchange import Exchange, whole
from server.service.no_engine import NoEngine

CHANNEL = "delegate"


async def _nothing(_: object) -> None:
    return


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked, by whom, and of a worker: which, and what it has left."""

    asker: Identity
    session: str
    messages: tuple[Message, ...]
    effort: Effort | None = None
    worker_id: str | None = None
    """None: a single thought, without tools."""
    instructions: str = ""
    tools: tuple[str, ...] | None = None
    tokens_used: int = 0
    folder: str | None = None
    thread: str | None = None
    advanced: Callable[[Sequence[Message]], Awaitable[None]] = _nothing
    began: Callable[[str], Awaitable[None]] = _nothing


async def whole_within(exchange: Exchange, seconds: float, target: Target) -> str:
    """The answer, when it is whole and durable. Raises what the exchange raises, Stopped when the time is over.

    When it returns or raises, nothing of the answer goes on, and its trajectory is in the log.
    """
    exchange.delivered()
    late = Stopped(f"{target} had no answer within {seconds:.0f} s; split the task or raise budget.seconds", reason="time")
    timer = asyncio.get_running_loop().call_later(seconds, exchange.end, late)
    try:
        return await whole(exchange)
    finally:
        timer.cancel()
        if exchange.task is not None:
            await asyncio.wait({exchange.task})


class Delegates:
    """Makes the agents of a plan's targets and begins their answers."""

    def __init__(self, plan: Plan, providers: Providers, chat: Chat, engine: Engine, alias: str, audit: Audit, roots: Roots) -> None:
        """`engine`, `alias`: this server's own model."""
        self._plan = plan
        self._providers = providers
        self._chat = chat
        self._engine = engine
        self._alias = alias
        self._audit = audit
        self._roots = roots

    async def begin(self, target: Target, task: Task) -> Exchange:
        """Begin the answer. Raises what `Chat.begin` raises."""
        provider = self._plan.providers[target.provider]
        request = ChatRequest(
            model=target.model,
            messages=task.messages,
            identity=task.asker,
            session=task.session,
            channel=CHANNEL,
            use_memory=task.worker_id is not None or isinstance(provider, OwnProvider),
        )
        if isinstance(provider, CodexProvider):
            return await self._chat.begin(request, agent=self._codex(target, provider, task), engine=NoEngine())
        if not isinstance(provider, OwnProvider):
            return await self._chat.begin(request, agent=self._delegate(target, None, task), engine=self._providers.engine(target))
        if task.worker_id is None:
            return await self._chat.begin(request)
        return await self._chat.begin(request, agent=self._delegate(target, self._alias, task), engine=self._engine)

    def _delegate(self, target: Target, alias: str | None, task: Task) -> Agent:
        return Delegate(
            target=str(target),
            alias=alias,
            toolbox=self._toolbox(target, task) if task.worker_id is not None else None,
            calls=self._plan.providers[target.provider].models[target.model].tools,
            budget=self._plan.budget,
            tokens_left=self._plan.budget.tokens - task.tokens_used,
            instructions=task.instructions,
            advanced=task.advanced,
        )

    def _toolbox(self, target: Target, task: Task) -> Toolbox:
        def told(name: str, path: str | None, outcome: Outcome) -> None:
            self._audit.write(
                Entry(
                    call=f"worker.{name}",
                    tenant=task.asker.tenant,
                    key_id=task.asker.key_id,
                    decision="denied" if outcome == "denied" else "allowed",
                    target=str(target),
                    worker_id=task.worker_id,
                    path=path,
                    ok=outcome == "done",
                )
            )

        return Toolbox(self._roots, task.tools, told)

    def _codex(self, target: Target, provider: CodexProvider, task: Task) -> Agent:
        if any(message.image for message in task.messages):
            raise InvalidRequest(f"{target} takes no images", param="use")
        folder: Path = folder_of(provider, task.folder)
        return CodexDelegate(
            target=str(target),
            model=target.model,
            provider=provider,
            folder=folder,
            effort=task.effort,
            thread=task.thread,
            began=task.began,
        )
