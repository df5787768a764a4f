"""The service: everything the server does, in one object that HTTP and MCP call. It owns what it opened, and closes it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext, suppress
from datetime import timedelta
from pathlib import Path

from memory_store.embedders.base import Embedded, Embedder, EmbeddingStore
from recollect.errors import ConfigurationError, EngineUnavailable
from recollect.keys import KeyRing
from recollect.log import LogWriter
from recollect.memory import Namespace
from recollect.model import Frozen
from recollect.registry import Registry
from recollect.settings import Settings
from recollect.stores import LocalStore
from recollect.trajectory import now
from server import tracing
from server.adapters import Adapters
from server.agents.base import Agent
from server.agents.registry import build_agents
from server.agents.rmm.rerankers import Rerankers
from server.delegation.plan import Limits, OwnProvider, load
from server.engines.base import Engine
from server.key_limits import KeyLimits
from server.service.admission import Admission
from server.service.audit import Auditing
from server.service.canaries import CanaryTrials
from server.service.chat import Bounds, Chat
from server.service.delegation import Delegation
from server.service.direct import Direct
from server.service.exchange import Exchange
from server.service.feedback import FeedbackBook
from server.service.files import Files
from server.service.forget import Forgetting
from server.service.known import KnownTrajectories
from server.service.memories import Memories
from server.service.metrics import Metrics
from server.service.no_engine import NoEngine
from server.service.opening import StoreOpener
from server.service.readings import Readings
from server.service.reflect import Reflecting
from server.service.responses import Responses
from server.service.resting import Resting, RestState
from server.service.sessions import OpenSession, Sessions
from server.service.spending import Budget, Spending
from server.service.store import OpeningStore
from server.service.usage import UsageBook
from server.service.worker_files import Worker
from server.service.workers import Change, Workers
from server.telemetry import open_telemetry

logger = logging.getLogger(__name__)

SETTLING_S = 0.25
"""Between two looks whether the engine is there."""


class Part(Frozen):
    """Whether a part of the server would do its work now, and a sentence for people."""

    ready: bool
    detail: str


class Status(Frozen):
    """Where the server stands. `detail` is the first thing that is missing."""

    ready: bool
    detail: str
    version: str
    pid: int
    home: str
    engine: Part
    rest: RestState
    memory: Part
    models: list[str]
    policies: dict[str, str]
    pending_writes: int
    open_sessions: int
    """Those that an agent will reflect on when they end."""
    budget: Budget
    """Of model calls: what was spent today, and the limits of calls after answers."""


class Service:
    """The use cases, by resource: `chat`, `responses`, `memories`, `files`, `readings`, `feedback`, `reflecting`, `adapters`.

    Between `start` and `close` it serves.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        engine: Engine | None,
        owns_engine: bool = False,
        fallback: Engine | None = None,
        store: LocalStore | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        """`engine` None: memories alone. `owns_engine`: start and close it. `fallback` answers while it rests, and
        is closed. `store`, `embedder`: those of the settings if left out.

        Raises ConfigurationError, StorageFull, OSError.
        """
        self.settings = settings
        self.home = settings.home.resolve()
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.version = importlib.metadata.version("recollect")
        self.started_at = now()
        self._owns_engine = owns_engine
        self.engine: Engine = engine or NoEngine()
        self._fallback = fallback
        self.announce: Callable[[], None] = lambda: None
        """Called when the engine is reached, at an address that may be a new one, before the first request is answered."""
        self._opener = StoreOpener(settings, embedder, eager=engine is not None)
        self.metrics = Metrics()
        self.telemetry = open_telemetry(settings, self.version)
        """Traces of requests and metrics of calls, where the settings name a receiver; None: nothing is traced."""
        self._store = OpeningStore(self._opener.open, self.metrics.searched) if store is None else store
        agents = build_agents(settings.agents, settings.prompt_pack, [self.home / "agents"])
        self._agents = agents if engine is not None else {}
        self._log = LogWriter(self.home / "trajectories", settings.log)
        known = KnownTrajectories(self.home / "trajectories")
        registry = Registry(self.home / "adapters")
        idle = timedelta(minutes=settings.agents.session_idle_minutes)
        self.canaries = CanaryTrials(registry, idle)
        self.adapters = Adapters(
            self.engine,
            registry,
            trials=self.canaries,
            session_idle_s=idle.total_seconds(),
            aliases=frozenset(alias for agent in self._agents.values() for alias in agent.aliases),
            max_rank=settings.engine.max_lora_rank,
            on_settling=lambda: self.announce(),
        )
        self.files = Files(self.home / "files", settings.files.max_bytes)
        self.sessions = Sessions(self.home / "sessions", idle)
        limits = settings.agents.daily_calls, settings.agents.daily_tokens
        self.usage = UsageBook(self.home / "usage")
        self.spending = Spending(self.home / "usage.json", daily_calls=limits[0], daily_tokens=limits[1], usage=self.usage)
        self.keys = KeyRing(self.home / "keys")
        self.limits = KeyLimits(self.usage)
        self.owner_token = secrets.token_urlsafe(32)
        """What the home's owner may ask with, whatever the keys: commands read it from `server.json`."""
        self.rerankers = Rerankers(self.home / "rerankers", settings.agents.rmm)
        server = settings.server
        admission = Admission(
            max_in_flight=server.max_in_flight,
            max_queued=server.max_queued,
            timeout_s=server.queue_timeout_s,
            refused=self.metrics.rejected,
        )
        self.chat = Chat(
            home=self.home,
            agents=self._models,
            engine=self.engine,
            store=self._store,
            log=self._log,
            adapters=self.adapters,
            known=known,
            files=self.files,
            sees=settings.engine.vision,
            trajectory_tokens=settings.log.trajectory_tokens,
            rerankers=self.rerankers,
            spending=self.spending,
            sessions=self.sessions,
            limits=self.limits,
            answered=self._answered,
            at_end=lambda agent: self.reflecting.at_end(agent),
            admission=admission,
            stand_in=self._stand_in,
            bounds=Bounds(settings.server.max_stream_s, settings.agents.max_tool_rounds),
        )
        self.resting = Resting(self.engine, self.adapters, settings.engine, end_answers=self.chat.end_all)
        self.readings = Readings(self.chat, known)
        self.responses = Responses(self.home / "responses", known)
        self.delegation = self._delegation(settings)
        self.workers = self.delegation.workers if self.delegation else Workers(self.home / "workers", Limits(), _no_work)
        self.reflecting = Reflecting(self._models, self.engine, self._store, self._log, self.adapters, known, self.spending)
        self.memories = Memories(self._store, self.chat.pending)
        self.forgetting = Forgetting(
            self.home,
            self._store,
            self.files,
            self._log,
            registry,
            self.chat.pending,
            self._quiet,
            self.rerankers,
            self.sessions,
            self.reflecting.lock,
            self.adapters.refresh,
            self.workers,
        )
        self.auditing = Auditing(self.home, self._store, self.memories, self.forgetting, self.chat.pending)
        self.feedback = FeedbackBook(self._log, known, kept=settings.log.enabled)
        self.metrics.gauge("recollect_requests_in_flight", "Answers that are being given.", lambda: self.chat.in_flight)
        self.metrics.gauge("recollect_requests_queued", "Requests that wait for a place.", lambda: admission.queued)
        self.metrics.gauge("recollect_pending_memory_writes", "Writes of memory that wait.", lambda: len(self.chat.pending))
        self.metrics.gauge("recollect_open_sessions", "Sessions that an agent will reflect on.", lambda: len(self.sessions))
        self.metrics.gauge("recollect_ready", "Whether requests would be answered now.", lambda: self.ready)
        self._watching: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None
        self._judging: asyncio.Task[None] | None = None

    @property
    def models(self) -> list[str]:
        """What `model` may be: the agents, then the base model once the engine was reached."""
        return list(self._models())

    async def start(self) -> None:
        """Begin to serve, if that was not done. Returns at once: engine, adapters and memory get ready in the background."""
        if self._watching is not None:
            return
        if isinstance(self._store, OpeningStore):
            self._store.start()
        if self._owns_engine:
            await self.engine.start()
        self._watching = asyncio.create_task(self.adapters.watch())
        self._ending = asyncio.create_task(self.sessions.watch(self._end))
        self._counting = asyncio.create_task(self.usage.watch())
        self._judging = asyncio.create_task(self.canaries.watch())

    async def opened(self) -> None:
        """Wait until memory is open, its libraries with it, or could not be opened. Requests are answered before that."""
        if isinstance(self._store, OpeningStore):
            await self._store.opened()

    async def close(self) -> None:
        """Finish what was promised, for a bounded time, and let go of everything."""
        async with AsyncExitStack() as parts:  # closed from the last to the first, each even if another fails
            if self.telemetry is not None:
                parts.push_async_callback(asyncio.to_thread, self.telemetry.close)
            parts.push_async_callback(asyncio.to_thread, self._log.close)
            parts.push_async_callback(asyncio.to_thread, self.rerankers.close)
            parts.push_async_callback(self.spending.save, at_once=True)
            parts.push_async_callback(self.usage.save)
            parts.push_async_callback(self._store.close)
            parts.push_async_callback(self._opener.close)
            if self._fallback is not None:
                parts.push_async_callback(self._fallback.close)
            if self._owns_engine:
                parts.push_async_callback(self.engine.close)
            parts.push_async_callback(self.adapters.close)
            for watching in (self._watching, self._ending, self._counting, self._judging):
                if watching is not None:
                    watching.cancel()
                    parts.push_async_callback(asyncio.wait, {watching})
            parts.push_async_callback(self.resting.close)
            parts.push_async_callback(self.chat.close)
            if self.delegation is not None:
                parts.push_async_callback(self.delegation.close)

    @property
    def ready(self) -> bool:
        """Whether requests would be answered now, as `status` tells it with more."""
        return self._answering().ready and self._memory_part().ready

    async def embed(self, texts: Sequence[str]) -> Embedded | None:
        """The vectors of texts in the space that is searched; None without an embedder. Raises EmbedderError."""
        if not isinstance(self._store, EmbeddingStore):
            return None
        with tracing.span("embeddings", {"gen_ai.operation.name": "embeddings", "gen_ai.provider.name": "recollect"}) as span:
            embedded = await self._store.embed(texts)
            if embedded is not None:
                span.set("gen_ai.response.model", embedded.space)
            return embedded

    async def measured(self) -> bytes:
        """What was counted and timed, for Prometheus."""
        states = await self.adapters.list()
        return self.metrics.text(states, self.resting.state.reason)

    async def status(self) -> Status:
        """Where the server stands."""
        answering = self._answering()
        memory = self._memory_part()
        parts = (memory, answering)
        serving = {state.policy: state.serving for state in await self.adapters.list() if state.serving is not None}
        return Status(
            ready=all(part.ready for part in parts),
            detail=next((part.detail for part in parts if not part.ready), answering.detail),
            version=self.version,
            pid=os.getpid(),
            home=str(self.home),
            engine=answering,
            rest=self.resting.state,
            memory=memory,
            models=self.models,
            policies=serving,
            pending_writes=len(self.chat.pending),
            open_sessions=len(self.sessions),
            budget=self.spending.budget,
        )

    def _answered(self, exchange: Exchange) -> None:
        self.metrics.answered(exchange)
        if self.telemetry is not None:
            kind = exchange.failure.partition(":")[0] if exchange.failure else None
            self.telemetry.instruments.answered(exchange.agent.id, exchange.elapsed_s, exchange.first_s, kind)

    async def _end(self, session: OpenSession) -> None:
        """A session has ended: when the engine is there and nothing of its namespace is going on any more, its agent reflects."""
        while not self.adapters.settled:  # noqa: ASYNC110 (it settles in a task of its own, without an event for others)
            await asyncio.sleep(SETTLING_S)
        await self.chat.quiet(session.where)
        with self.telemetry.work("session_end") if self.telemetry is not None else nullcontext():
            await self.reflecting.end(session)

    async def _quiet(self, namespace: Namespace) -> None:
        """Until no answer of a namespace is in progress; readings and workers, which may take long, are stopped."""
        await self.readings.forget(namespace)
        await self.workers.interrupt(namespace.tenant, namespace)
        await self.chat.quiet(namespace)

    def _delegation(self, settings: Settings) -> Delegation | None:
        """What `delegation.file` allows. Raises ConfigurationError, also for agents that this server does not have."""
        if settings.delegation.file is None:
            return None
        plan = load(settings.delegation.file)
        for name, provider in plan.providers.items():
            for model in provider.models:
                if isinstance(provider, OwnProvider) and self._agents and model not in self._agents:
                    raise ConfigurationError(
                        f"providers.{name}.models: this server has no agent {model!r}; it has {', '.join(self._agents)}",
                        param=f"providers.{name}.models",
                    )
        return Delegation(plan, chat=self.chat, engine=self.engine, alias=settings.agents.policy, home=self.home, kept=self._kept(settings))

    def _kept(self, settings: Settings) -> list[Path]:
        """The folders of this server, which nobody reads to whom work is handed on."""
        return [self.home, *([Path(settings.memory.uri)] if settings.memory.uri and "://" not in settings.memory.uri else [])]

    def _stand_in(self) -> Engine | None:
        """What answers in place of an engine that rests."""
        return self._fallback if self.resting.state.phase != "awake" else None

    def _answering(self) -> Part:
        if (stand_in := self._stand_in()) is not None:
            return Part(ready=True, detail=f"the engine rests ({self.resting.state.reason}); {stand_in.base} answers for it")
        return Part(ready=self.adapters.settled, detail=self.adapters.detail)

    def _memory_part(self) -> Part:
        failure = self._store.failure if isinstance(self._store, OpeningStore) else None
        if failure is not None:
            return Part(ready=False, detail=f"memory could not be opened: {failure}")
        return Part(ready=True, detail="open")

    def _models(self) -> Mapping[str, Agent]:
        with suppress(EngineUnavailable):
            base = self.engine.base
            return {**self._agents, base: self._agents.get(base) or Direct(base)}
        return self._agents


async def _no_work(worker: Worker, change: Change) -> None:
    """Without a plan nobody works: what there is can be forgotten."""
