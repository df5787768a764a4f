"""Chat: one request from its checks to its last event, the record of it, and the memory that is written afterwards."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from recollect.errors import InvalidRequest, NotFound, RecollectError, StorageFull
from recollect.log import LogWriter
from recollect.memory import LOCAL_TENANT, Namespace
from recollect.messages import Message
from recollect.policy import Policy
from recollect.stores import MemoryStore
from recollect.tools import Tools
from server.adapters import Adapters, Pins
from server.agents.base import Agent, AgentContext, AgentRequest
from server.agents.recorder import Recorder
from server.agents.rmm.rerankers import Rerankers
from server.agents.turns import tool_rounds
from server.engines.base import Engine, Sampling
from server.identity import Identity
from server.key_limits import KeyLimits, Reserved
from server.service.admission import Admission
from server.service.exchange import Exchange
from server.service.files import Files
from server.service.ids import new_id
from server.service.known import KnownTrajectories
from server.service.no_engine import DETAIL
from server.service.pending import PendingWrites
from server.service.sessions import Sessions
from server.service.spending import Spending

logger = logging.getLogger(__name__)

MIN_FREE_BYTES = 16 * 2**20
DISK_CHECK_S = 1.0
PENDING_WAIT_S = 1.0
QUIET_WAIT_S = 10.0
SHUTDOWN_WAIT_S = 30.0
CHARACTERS_A_TOKEN = 4
ANSWER_TOKENS = 256
"""What is reserved of a key's tokens of the day for an answer without a limit of its own."""
MAX_ANSWER_TOKENS = 10**6
"""At most, where the window is not known: clients name any number."""


class Bounds(NamedTuple):
    """How long an answer may take, and how many rounds of tool calls a request may hold since the user's last message."""

    max_stream_s: float
    max_tool_rounds: int


class Counted(NamedTuple):
    """The tokens of a prompt; not `exact`: estimated by its characters."""

    tokens: int
    exact: bool


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation for the agent called `model`. `attached`: one of its messages came as a file."""

    model: str
    messages: tuple[Message, ...]
    identity: Identity
    session: str
    sampling: Sampling = field(default_factory=Sampling)
    stream: bool = False
    use_memory: bool = True
    channel: str = "chat"
    attached: bool = False
    tools: Tools | None = None
    instructed: bool = False
    """The first message holds instructions of this request alone."""
    asked: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """`Trajectory.asked`."""
    session_done: bool = False
    """Nothing more will be said in the session."""


class Chat:
    """The agents that answer, with what they need."""

    def __init__(
        self,
        *,
        home: Path,
        agents: Callable[[], Mapping[str, Agent]],
        engine: Engine,
        store: MemoryStore,
        log: LogWriter,
        adapters: Adapters,
        known: KnownTrajectories,
        files: Files,
        sees: bool,
        trajectory_tokens: int,
        rerankers: Rerankers,
        spending: Spending,
        sessions: Sessions,
        limits: KeyLimits,
        answered: Callable[[Exchange], None],
        at_end: Callable[[Agent], bool],
        admission: Admission,
        stand_in: Callable[[], Engine | None],
        bounds: Bounds,
    ) -> None:
        """`sees`: whether the engine takes images. `trajectory_tokens`: of how many tokens a trajectory keeps the ids. `answered` is told
        of each answer that has ended. `at_end`: whether an agent waits for the end of sessions.
        `stand_in`: what answers in place of the engine now, if anything does."""
        self._agents = agents
        self._rerankers = rerankers
        self._spending = spending
        self._sessions = sessions
        self._at_end = at_end
        self._admission = admission
        self._stand_in = stand_in
        self._bounds = bounds
        self._limits = limits
        self._answered = answered
        self.pending = PendingWrites()
        self._home = home
        self._engine = engine
        self._store = store
        self._log = log
        self._adapters = adapters
        self._known = known
        self._files = files
        self._sees = sees
        self._trajectory_tokens = trajectory_tokens
        self._disk_checked = -DISK_CHECK_S
        self._running: set[Exchange] = set()

    async def begin(
        self, request: ChatRequest, *, agent: Agent | None = None, engine: Engine | None = None, any_length: bool = False
    ) -> Exchange:
        """Start to answer, when there is a place. `agent`, on `engine`: one that is no model of this server, was found able by its caller,
        and has bounds of its own. `any_length`: it may take longer than answers may.

        Raises NotFound (model, file), InvalidRequest (an agent that reads no files), StorageFull, EngineUnavailable, TooManyRequests; what
        comes later is raised by the exchange.
        """
        limit_s = None if any_length or agent is not None else self._bounds.max_stream_s
        if agent is None:
            agent = self._agent(request.model)
            self._check_files(request, agent)
            self._check_abilities(request, agent)
        self._check_disk()
        # Who calls nothing of this server's engine takes no place there, and need not wait for it.
        elsewhere = engine is not None and not agent.aliases
        if elsewhere:
            self._admission.check_open()
        said = _estimated(request.messages, request.tools)
        expected = said + _answer_tokens(request, self._engine.window)
        reserved = self._limits.reserve(request.identity.tenant, request.identity.key_id, expected)
        with ExitStack() as undone:
            undone.callback(reserved.settle, 0)
            if not (elsewhere or self._admission.take()):
                await self._admission.wait(request.identity.tenant)
            leave = _nothing if elsewhere else self._admission.leave
            undone.callback(leave)
            exchange = await self._prepared(request, agent, engine or self._engine, elsewhere=elsewhere)
            undone.pop_all()
        exchange.on_end(lambda: self._ended(exchange, reserved, said, leave))
        self._start(exchange, limit_s)
        return exchange

    async def _prepared(self, request: ChatRequest, agent: Agent, engine: Engine, *, elsewhere: bool) -> Exchange:
        """What will answer, its policies pinned; it has to be started."""
        await self.pending.settle(request.identity.namespace, timeout_s=PENDING_WAIT_S)
        # Without memory nothing of the answer depends on its state.
        seq = await self._store.seq(request.identity.namespace) if request.use_memory else None
        if request.use_memory and self._at_end(agent):
            await self._sessions.touch(request.identity.namespace, request.session, agent.id, done=request.session_done)
        session = str(request.identity.namespace), request.session
        if elsewhere:
            pins = Pins({}, _nothing, of_engine=False)
        elif (stand_in := self._stand_in()) is not None:
            engine, base = stand_in, Policy(base=stand_in.base)
            pins = Pins(dict.fromkeys(agent.aliases, base), _nothing, of_engine=False)
        else:
            pins = self._adapters.pin(agent.aliases, request.identity.tenant, session)
        return Exchange(
            agent=agent,
            request=AgentRequest(
                request.messages, request.sampling, stream=request.stream, use_memory=request.use_memory, tools=request.tools
            ),
            context=AgentContext(
                engine=engine,
                store=self._store,
                namespace=request.identity.namespace,
                policies=pins.policies,
                recorder=Recorder(trajectory_id=new_id(), max_tokens=self._trajectory_tokens),
                channel=request.channel,
                salt=None if request.identity.tenant == LOCAL_TENANT else request.identity.tenant,
                session=request.session,
                at=datetime.now(UTC),
                files=self._files,
                rerankers=self._rerankers,
            ),
            session=request.session,
            instructed=request.instructed,
            asked=request.asked,
            seq_before=seq,
            log=self._log,
            pending=self.pending,
            pins=pins,
            adapters_lost=self._adapters.lost,
            spending=self._spending,
            key_id=request.identity.key_id,
        )

    def _start(self, exchange: Exchange, limit_s: float | None) -> None:
        self._running.add(exchange)
        exchange.start()
        if limit_s is not None:
            assert exchange.task is not None
            limit = asyncio.get_running_loop().call_later(limit_s, exchange.overrun, limit_s)
            exchange.task.add_done_callback(lambda _: limit.cancel())

    @property
    def crowded(self) -> bool:
        """Whether a request that came now would have to wait for a place."""
        return self._admission.crowded

    @property
    def in_flight(self) -> int:
        """Answers that are being given."""
        return len(self._running)

    async def count(self, messages: Sequence[Message], tools: Tools | None) -> Counted:
        """How many tokens a prompt has; an estimate where the engine's tokenizer is out of reach."""
        if self._engine.exact:
            return Counted(await self._engine.count(messages, tools), exact=True)
        return Counted(_estimated(messages, tools), exact=False)

    async def quiet(self, namespace: Namespace, timeout_s: float = QUIET_WAIT_S) -> None:
        """Wait until what runs now in the namespace has ended, and then for what is pending; each at most `timeout_s`."""
        running = {exchange.task for exchange in self._running if exchange.namespace == namespace and exchange.task}
        if running:
            await asyncio.wait(running, timeout=timeout_s)
        await self.pending.settle(namespace, timeout_s=timeout_s)

    def stop(self) -> None:
        """End the answers that still run, each with an error that its client sees, and send away who waits."""
        self._admission.close()
        for exchange in tuple(self._running):
            exchange.stop()

    def end_all(self, reason: RecollectError) -> None:
        """End every answer of this server's engine that still runs with this error; who comes afterwards is not concerned."""
        for exchange in tuple(self._running):
            if exchange.of_engine:
                exchange.end(reason)

    async def close(self) -> None:
        """Let running answers and pending writes finish, for a bounded time."""
        for exchange in tuple(self._running):
            exchange.delivered()
        if running := {exchange.task for exchange in self._running if exchange.task}:
            await asyncio.wait(running, timeout=QUIET_WAIT_S)
        cancelled = await self.pending.close(timeout_s=SHUTDOWN_WAIT_S)
        if cancelled:
            logger.warning("%d memory writes did not finish in %.0f s and were given up", cancelled, SHUTDOWN_WAIT_S)

    def _agent(self, model: str) -> Agent:
        agents = self._agents()
        if agent := agents.get(model):
            return agent
        known = f"this server has: {', '.join(agents)}" if agents else DETAIL
        raise NotFound(f"no model {model!r}; {known}", param="model", code="model_not_found")

    def _check_files(self, request: ChatRequest, agent: Agent) -> None:
        if request.attached and not getattr(agent, "reads_files", False):  # most agents read none, and need not say so
            raise InvalidRequest(f"model {request.model!r} reads no files; ask 'reader'", param="messages", code="unsupported_content_part")
        for message in request.messages:
            if message.file_id is not None:
                self._files.get(request.identity.tenant, message.file_id)

    def _check_abilities(self, request: ChatRequest, agent: Agent) -> None:
        spoken = any(message.role == "tool" or message.tool_calls for message in request.messages)
        if (request.tools or spoken) and not getattr(agent, "conversational", False):
            raise InvalidRequest(f"model {request.model!r} uses no tools; ask 'memory'", param="tools", code="unsupported_parameter")
        if spoken:
            self._check_rounds(request.messages)
        if any(message.image for message in request.messages) and not (self._sees and getattr(agent, "conversational", False)):
            hint = "set engine.vision=true if the model behind this server does" if not self._sees else "ask 'memory'"
            raise InvalidRequest(f"model {request.model!r} sees no images; {hint}", param="messages", code="unsupported_content_part")

    def _check_rounds(self, messages: Sequence[Message]) -> None:
        rounds = tool_rounds(messages)
        if rounds > (most := self._bounds.max_tool_rounds):
            raise InvalidRequest(
                f"messages hold {rounds} rounds of tool calls since the user's last message, and {most} are allowed; "
                "let the user speak, begin a new conversation, or raise agents.max_tool_rounds",
                param="messages",
                code="too_many_tool_rounds",
            )

    def _check_disk(self) -> None:
        if time.monotonic() < self._disk_checked + DISK_CHECK_S:
            return
        free = shutil.disk_usage(self._home).free
        if free < MIN_FREE_BYTES:
            needed = MIN_FREE_BYTES // 2**20
            raise StorageFull(f"the disk of {self._home} has {free // 2**20} MiB left; {needed} are needed to keep what is promised")
        self._disk_checked = time.monotonic()

    def _ended(self, exchange: Exchange, reserved: Reserved, said: int, leave: Callable[[], None]) -> None:
        """`said`: about how many tokens the request had, for an answer that was broken off before the engine told."""
        self._running.discard(exchange)
        leave()
        reserved.settle(exchange.usage.total_tokens or said + exchange.characters // CHARACTERS_A_TOKEN)
        self._answered(exchange)
        if exchange.logged:
            self._known.add(exchange.trajectory_id, exchange.namespace.tenant)


def _estimated(messages: Sequence[Message], tools: Tools | None) -> int:
    """About how many tokens a prompt has."""
    offered = sum(len(tool.model_dump_json()) for tool in tools.offered) if tools else 0
    said = sum(len(message.content) + sum(len(call.arguments) for call in message.tool_calls) for message in messages)
    return 1 + (said + offered) // CHARACTERS_A_TOKEN


def _answer_tokens(request: ChatRequest, window: int | None) -> int:
    """About how many tokens the answers will have at most."""
    sampling = request.sampling
    return sampling.n * min(sampling.max_tokens or ANSWER_TOKENS, window or MAX_ANSWER_TOKENS)


def _nothing() -> None:
    """There is nothing to give back."""
