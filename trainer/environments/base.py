"""The environment: one task, one private fork of the memory, one agent rolled out on it once, and the scoring of what it did."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from recollect.memory import LOCAL_TENANT
from recollect.policy import Policy
from recollect.stores import MemoryStore
from recollect.trajectory import Reward, Step, Trajectory, now
from server.agents.base import Agent, AgentContext, AgentRequest
from server.agents.recorder import Recorder
from server.engines.base import Engine, Sampling
from trainer.environments.tasks import Task
from trainer.rewards.case import Origins, Scoring
from trainer.rewards.judge import Judge
from trainer.rewards.score import score
from trainer.rewards.weights import RewardWeights

CHANNEL = "training"


@dataclass(slots=True)
class Environment:
    """Single-use. `fork` belongs to this environment alone; `policies` maps the agent's aliases to what samples."""

    task: Task
    fork: MemoryStore
    engine: Engine
    policies: Mapping[str, Policy]
    sampling: Sampling
    weights: RewardWeights = field(default_factory=RewardWeights)
    scoring: Scoring = field(default_factory=Scoring)
    judge: Judge | None = None
    _recorders: list[Recorder] = field(default_factory=list[Recorder])
    _used: bool = False

    async def run(self, agent: Agent) -> Trajectory:
        """Remember the task's conversation, answer its request. A failure is data: it ends the trajectory, which names it.

        The agent is called as the server calls it: `acknowledge` and `remember` after each turn, `run` for the answer,
        each request with a recorder of its own. Their steps make one trajectory, numbered through.
        Raises RuntimeError when run twice.
        """
        if self._used:
            raise RuntimeError("an environment is run once; make another for the next sibling")
        self._used = True
        started, identity = now(), f"rollout-{uuid.uuid4().hex}"
        answer, error = "", None
        key = str(self.task.namespace)
        before = await self.fork.seq(self.task.namespace)
        try:
            if self.task.memories:
                await self.fork.apply(self.task.namespace, self.task.memories)
            answer = await self._rolled_out(agent, identity)
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001 - the boundary of a rollout: whatever broke it is recorded with it
            error = f"{type(exc).__name__}: {exc}"
        return Trajectory(
            id=identity,
            tenant=self.task.namespace.tenant,
            namespace=key,
            session=self.task.id,
            agent=agent.id,
            agent_config_hash=agent.config_hash,
            request=list(self.task.request),
            answer=answer,
            created_at=started,
            memory_seq_before={key: before},
            memory_seq_after={key: await self.fork.seq(self.task.namespace)},
            steps=self._steps(),
            error=error,
        )

    async def score(self, trajectory: Trajectory) -> list[Reward]:
        """The rewards of what was done; a failed trajectory is not scored."""
        return await score(self.task, trajectory, self.weights, scoring=self.scoring, origins=self._origins(), judge=self.judge)

    def _origins(self) -> Origins:
        """Which turns of the conversation each memory was written in, where the task has ids for them."""
        origins: dict[str, set[str]] = {}
        for turn, recorder in zip(self.task.conversation, self._recorders, strict=False):
            for op in (op for step in recorder.steps for op in step.memory_ops if turn.id and op.id):
                origins.setdefault(op.id or "", set()).add(turn.id or "")
        return origins

    async def _rolled_out(self, agent: Agent, identity: str) -> str:
        for number, turn in enumerate(self.task.conversation):
            told, context = (
                AgentRequest(messages=turn.messages, sampling=self.sampling),
                self._context(f"{identity}.{number}", turn.session, turn.at),
            )
            await agent.acknowledge(told, context)
            await agent.remember(told, turn.reply, context)
        asked = AgentRequest(messages=self.task.request, sampling=self.sampling)
        return "".join([event.text async for event in agent.run(asked, self._context(identity, self.task.session, self.task.at))])

    def _context(self, identity: str, session: str | None, at: datetime | None) -> AgentContext:
        recorder = Recorder(trajectory_id=identity)
        self._recorders.append(recorder)
        return AgentContext(
            engine=self.engine,
            store=self.fork,
            namespace=self.task.namespace,
            policies=self.policies,
            recorder=recorder,
            channel=CHANNEL,
            salt=None if self.task.namespace.tenant == LOCAL_TENANT else self.task.namespace.tenant,
            session=session or self.task.id,
            at=at,
            guided=False,
        )

    def _steps(self) -> list[Step]:
        steps = [step for recorder in self._recorders for step in recorder.steps]
        return [step.model_copy(update={"index": index}) for index, step in enumerate(steps)]
