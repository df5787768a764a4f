"""Reflection at a session's end: the agent `rmm` turns what was said into topic memories, and the log tells how."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from recollect.errors import Conflict, InvalidRequest, NotFound, RecollectError
from recollect.events import LogEvent
from recollect.log import LogWriter
from recollect.memory import LOCAL_TENANT, MemoryRecord, Namespace
from recollect.stores import MemoryStore
from recollect.trajectory import Trajectory
from server import tracing
from server.adapters import Adapters
from server.agents.base import Agent, AgentContext
from server.agents.recorder import Recorder
from server.agents.rmm.agent import RmmAgent
from server.engines.base import Engine
from server.service.ids import new_id
from server.service.known import KnownTrajectories
from server.service.sessions import OpenSession
from server.service.spending import Spending

CHANNEL = "reflection"


class Reflecting:
    """The use case `reflect`: what is done when a session has ended (sessions.py), or when it is asked for."""

    def __init__(
        self,
        agents: Callable[[], Mapping[str, Agent]],
        engine: Engine,
        store: MemoryStore,
        log: LogWriter,
        adapters: Adapters,
        known: KnownTrajectories,
        spending: Spending,
    ) -> None:
        self._agents = agents
        self._engine = engine
        self._store = store
        self._log = log
        self._adapters = adapters
        self._known = known
        self._spending = spending
        self.lock = asyncio.Lock()
        """Held while a session is reflected on: one at a time, and none while something is forgotten. Answers do not wait for it."""

    def at_end(self, agent: Agent) -> bool:
        """Whether an agent has something to do when a session ends."""
        return isinstance(agent, RmmAgent) and agent.reflects_at_end

    async def end(self, one: OpenSession) -> None:
        """Reflect on a session that has ended. Raises InvalidRequest for an agent that does not, and what `reflect` raises.

        Where no more model calls may be made today it is put off: Conflict.
        """
        agent = self._agents().get(one.agent)
        if agent is None or not self.at_end(agent):
            raise InvalidRequest(f"agent {one.agent!r} does not reflect at a session's end", param="agent")
        if self._spending.used_up:
            raise Conflict("the day's model calls after answers are used up (agents.daily_calls, agents.daily_tokens)", code="budget")
        await self.reflect(one.where, one.session, one.agent)

    async def reflect(self, namespace: Namespace, session: str, agent_id: str = "rmm") -> Sequence[MemoryRecord]:
        """Reflect on a session; returns the topic memories that it wrote or changed. Repeating it is harmless.

        One trajectory is logged for it, also of a failure. Raises NotFound for an agent that does not reflect, EngineError, Conflict.
        """
        agent = self._agents().get(agent_id)
        if not isinstance(agent, RmmAgent):
            raise NotFound(f"no agent {agent_id!r} that reflects; call it with the id of an `rmm` agent", param="agent")
        pins = self._adapters.pin(agent.aliases, namespace.tenant, (str(namespace), session))
        context = AgentContext(
            engine=self._engine,
            store=self._store,
            namespace=namespace,
            policies=pins.policies,
            recorder=Recorder(trajectory_id=new_id()),
            channel=CHANNEL,
            salt=None if namespace.tenant == LOCAL_TENANT else namespace.tenant,
            session=session,
            at=datetime.now(UTC),
        )
        seq, failure = await self._store.seq(namespace), None
        try:
            attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent_id, "recollect.channel": CHANNEL}
            async with self.lock:
                with tracing.span(f"invoke_agent {agent_id}", attributes):
                    return await agent.reflect(session, context)
        except RecollectError as exc:
            failure = f"{type(exc).__name__}: {exc.message}"
            raise
        finally:
            pins.release()
            self._spending.add(agent.id, context.recorder.steps, after_answer=True, tenant=namespace.tenant)
            if context.recorder.steps:
                await self._logged(agent, session, seq, context, failure)

    async def _logged(self, agent: Agent, session: str, seq: int, ctx: AgentContext, failure: str | None) -> None:
        key = str(ctx.namespace)
        trajectory = Trajectory(
            id=ctx.recorder.trajectory_id,
            tenant=ctx.namespace.tenant,
            namespace=key,
            session=session,
            agent=agent.id,
            agent_config_hash=agent.config_hash,
            request=[],
            memory_seq_before={key: seq},
            memory_seq_after={key: await self._store.seq(ctx.namespace)},
            steps=list(ctx.recorder.steps),
            error=failure,
            trainable=ctx.engine.exact,
        )
        body = trajectory.model_dump(mode="json")
        await self._log.log(LogEvent(event_id=new_id(), trajectory_id=trajectory.id, kind="trajectory", body=body))
        self._known.add(trajectory.id, trajectory.tenant)
