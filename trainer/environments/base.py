"""The environment: one task, one private fork of the memory, one agent rolled out on it once, and the scoring of what it did.

What many tasks are asked of, one conversation, can be told to an agent once (`tell`): each of them then begins on a fork of the
memory that came of it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from recollect.errors import RecollectError
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


class RolloutFailed(RecollectError):
    """What a rollout begins from is not there."""


@dataclass(frozen=True, slots=True)
class Told:
    """A conversation that an agent remembered: the memory after it, and a recorder a turn. `error` if it broke off."""

    memory: MemoryStore
    recorders: tuple[Recorder, ...]
    seconds: float
    error: str | None = None

    @property
    def steps(self) -> list[Step]:
        """What was done while it was told."""
        return [step for recorder in self.recorders for step in recorder.steps]


@dataclass(slots=True)
class Environment:
    """Single-use. `fork` belongs to this environment alone; `policies` maps the agent's aliases to what samples.

    With `told` the task's conversation was told before, and `fork` is one of `told.memory`.
    """

    task: Task
    fork: MemoryStore
    engine: Engine
    policies: Mapping[str, Policy]
    sampling: Sampling
    weights: RewardWeights = field(default_factory=RewardWeights)
    scoring: Scoring = field(default_factory=Scoring)
    judge: Judge | None = None
    told: Told | None = None
    _recorders: list[Recorder] = field(default_factory=list[Recorder])
    _used: bool = False

    async def run(self, agent: Agent) -> Trajectory:
        """Remember the task's conversation, answer its request. A failure is data: it ends the trajectory, which names it.

        The agent is called as the server calls it: `acknowledge` and `remember` after each turn, `run` for the answer,
        each request with a recorder of its own. Their steps make one trajectory, numbered through.
        Raises RuntimeError when run twice.
        """
        self._use()
        started, identity = now(), f"rollout-{uuid.uuid4().hex}"
        answer, error = "", None
        key = str(self.task.namespace)
        before = await self.fork.seq(self.task.namespace)
        try:
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

    async def tell(self, agent: Agent) -> Told:
        """Remember the task's conversation and ask nothing. A failure is data, as in `run`. Raises RuntimeError when used twice."""
        self._use()
        clock, error = time.perf_counter(), None
        try:
            await self._tell(agent, f"told-{uuid.uuid4().hex}")
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001 - the boundary of a rollout, as above
            error = f"{type(exc).__name__}: {exc}"
        return Told(self.fork, tuple(self._recorders), time.perf_counter() - clock, error)

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

    def _use(self) -> None:
        if self._used:
            raise RuntimeError("an environment is run once; make another for the next sibling")
        self._used = True

    async def _rolled_out(self, agent: Agent, identity: str) -> str:
        if self.told is None:
            await self._tell(agent, identity)
        elif self.told.error is not None:
            raise RolloutFailed(f"the conversation could not be told: {self.told.error}")
        else:
            self._recorders += self.told.recorders
        asked = AgentRequest(messages=self.task.request, sampling=self.sampling)
        return "".join([event.text async for event in agent.run(asked, self._context(identity, self.task.session, self.task.at))])

    async def _tell(self, agent: Agent, identity: str) -> None:
        if self.task.memories:
            await self.fork.apply(self.task.namespace, self.task.memories)
        for number, turn in enumerate(self.task.conversation):
            told, context = (
                AgentRequest(messages=turn.messages, sampling=self.sampling),
                self._context(f"{identity}.{number}", turn.session, turn.at),
            )
            await agent.acknowledge(told, context)
            await agent.remember(told, turn.reply, context)

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
