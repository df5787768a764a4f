"""The service: everything the server does, in one object that HTTP and MCP call. It owns what it opened, and closes it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from memory_store.embedders.base import Embedder
from recollect.errors import EngineUnavailable
from recollect.log import LogWriter
from recollect.memory import MemoryStore
from recollect.model import Frozen
from recollect.registry import Registry
from recollect.settings import Settings
from recollect.trajectory import now
from server.adapters import Adapters
from server.agents.base import Agent
from server.agents.registry import build_agents
from server.engines.base import Engine
from server.service.chat import Chat
from server.service.direct import Direct
from server.service.feedback import FeedbackBook
from server.service.known import KnownTrajectories
from server.service.memories import Memories
from server.service.store import OpeningStore

logger = logging.getLogger(__name__)


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
    memory: Part
    models: list[str]
    policies: dict[str, str]
    pending_writes: int


class Service:
    """The use cases, by resource: `chat`, `memories`, `feedback`, `adapters`. Between `start` and `close` it serves."""

    def __init__(self, settings: Settings, *, engine: Engine, store: MemoryStore | None = None, embedder: Embedder | None = None) -> None:
        """`store` and `embedder`: those of the settings if left out. Raises ConfigurationError, StorageFull, OSError."""
        self.settings = settings
        self.home = settings.home.resolve()
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.version = importlib.metadata.version("recollect")
        self.started_at = now()
        self.engine = engine
        self._embedder = embedder
        self._store = OpeningStore(self._open_store) if store is None else store
        self._agents = build_agents(settings.agents, settings.prompt_pack)
        self._log = LogWriter(self.home / "trajectories", settings.log)
        known = KnownTrajectories(self.home / "trajectories")
        aliases = frozenset(alias for agent in self._agents.values() for alias in agent.aliases)
        self.adapters = Adapters(engine, Registry(self.home / "adapters"), aliases=aliases, max_rank=settings.engine.max_lora_rank)
        self.chat = Chat(
            home=self.home,
            agents=self._models,
            engine=engine,
            store=self._store,
            log=self._log,
            adapters=self.adapters,
            known=known,
        )
        self.memories = Memories(self._store, self.chat.pending)
        self.feedback = FeedbackBook(self._log, known)
        self._watching: asyncio.Task[None] | None = None

    @property
    def models(self) -> list[str]:
        """What `model` may be: the agents, then the base model once the engine was reached."""
        return list(self._models())

    async def start(self) -> None:
        """Begin to serve. Returns at once: engine, adapters and memory get ready in the background."""
        if isinstance(self._store, OpeningStore):
            self._store.start()
        await self.engine.start()
        self._watching = asyncio.create_task(self.adapters.watch())

    async def close(self) -> None:
        """Finish what was promised, for a bounded time, and let go of everything."""
        await self.chat.close()
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await self.adapters.close()
        await self.engine.close()
        await self._store.close()
        await asyncio.to_thread(self._log.close)

    async def status(self) -> Status:
        """Where the server stands."""
        engine = Part(ready=self.adapters.settled, detail=self.adapters.detail)
        memory = self._memory_part()
        parts = (memory, engine)
        serving = {state.policy: state.serving for state in await self.adapters.list() if state.serving is not None}
        return Status(
            ready=all(part.ready for part in parts),
            detail=next((part.detail for part in parts if not part.ready), engine.detail),
            version=self.version,
            pid=os.getpid(),
            home=str(self.home),
            engine=engine,
            memory=memory,
            models=self.models,
            policies=serving,
            pending_writes=len(self.chat.pending),
        )

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

    async def _open_store(self) -> MemoryStore:
        return await asyncio.to_thread(_lance_store, self.settings, self.home, self._embedder)


def _lance_store(settings: Settings, home: Path, embedder: Embedder | None) -> MemoryStore:
    # Here, in a thread: these libraries take seconds to load, and the server answers meanwhile.
    from memory_store.embedders.choose import choose
    from memory_store.store import LanceMemoryStore

    return LanceMemoryStore(home / "memory", embedder or choose(settings.embedder, home))
