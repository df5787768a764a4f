"""What an agent is: `run` answers a request as a stream of events, `remember` writes memory after the answer has gone out.

The agent that serves a user is the agent that is rolled out in training: same class, same prompts, same store interface.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from recollect.memory import Namespace
from recollect.messages import Message
from recollect.policy import Policy
from recollect.stores import MemoryStore
from recollect.tools import Tools
from recollect.trajectory import Usage
from server.agents.recorder import Recorder
from server.agents.rmm.rerankers import Rerankers
from server.engines.base import CallPiece, Engine, Sampling


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """A conversation to answer. `stream` asks the engine for small chunks; without it there is one a choice."""

    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    stream: bool = False
    use_memory: bool = True
    tools: Tools | None = None
    """What the client offers to the model that answers; only for agents that are `conversational`."""


class Files(Protocol):
    """Where the texts lie that messages name by `file_id`."""

    def path(self, tenant: str, file_id: str) -> Path:
        """A text in UTF-8. Raises NotFound, also for a file of another tenant."""
        ...


@dataclass(frozen=True, slots=True)
class AgentContext:
    """What a request may use. `policies` maps each alias to the version it was pinned to when the request began."""

    engine: Engine
    store: MemoryStore
    namespace: Namespace
    policies: Mapping[str, Policy]
    recorder: Recorder
    channel: str = "chat"
    salt: str | None = None
    session: str | None = None
    at: datetime | None = None
    """When the user said it; None where nobody knows, as in generated tasks."""
    files: Files | None = None
    """None where there are none, as in rollouts."""
    guided: bool = True
    """Whether the engine may hold answers to a schema. Off in training: a step that was decoded so cannot be trained on."""
    may_call: bool = True
    """False: the budget of model calls after answers is used up, and what is said is kept as it was."""
    rerankers: Rerankers | None = None
    """What learns from citations while serving; None: nothing does, as in rollouts."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """A piece of the answer. The last event of a choice has a `finish_reason`; the last of all has `usage`."""

    index: int = 0
    text: str = ""
    calls: tuple[CallPiece, ...] = ()
    told: tuple[dict[str, Any], ...] = ()
    finish_reason: str | None = None
    stopped_by: str | None = None
    usage: Usage | None = None
    reasoning: str = ""


class Agent(Protocol):
    """Modules wired by configuration."""

    @property
    def id(self) -> str:
        """The model name that clients use."""
        ...

    @property
    def aliases(self) -> frozenset[str]:
        """The policy aliases that its modules call."""
        ...

    @property
    def config_hash(self) -> str:
        """sha256 of its resolved configuration, prompts included."""
        ...

    def run(self, request: AgentRequest, ctx: AgentContext) -> AsyncIterator[StreamEvent]:
        """Answer. Every model call and memory operation is recorded in `ctx.recorder`."""
        ...

    async def acknowledge(self, request: AgentRequest, ctx: AgentContext) -> None:
        """Commit what is promised before the answer's end: the user's turn as episodic memory, where the agent keeps it."""
        ...

    async def remember(self, request: AgentRequest, answer: str, ctx: AgentContext) -> None:
        """Write memory that takes model calls, after the answer has gone out. No-op for agents that write nothing."""
        ...
