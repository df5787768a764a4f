"""Rollouts: siblings of tasks, many at a time, each in its own environment, scored, as groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from recollect.errors import EngineError, EngineUnavailable
from recollect.policy import Policy
from recollect.stores import MemoryStore
from recollect.trajectory import Trajectory, TrajectoryGroup
from server.agents.base import Agent
from server.engines.base import Engine, Sampling
from trainer.environments.base import Environment, Told
from trainer.environments.tasks import Task
from trainer.recorded import StageRecord
from trainer.rewards.case import Scoring
from trainer.rewards.judge import Judge
from trainer.rewards.weights import RewardWeights

SamplingOf = Callable[[Task, int], Sampling]
"""The sampling of a task's sibling."""


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What all rollouts of a run share. `concurrency` bounds how many are in flight, of all stages together."""

    engine: Engine
    store: MemoryStore
    agents: Mapping[str, Agent]
    concurrency: int = 128
    weights: RewardWeights = field(default_factory=RewardWeights)
    scoring: Scoring = field(default_factory=Scoring)
    judge: Judge | None = None
    frozen: Mapping[str, Policy] = field(default_factory=dict[str, Policy])
    """By alias, the policies that are sampled from but not trained."""
    stage: StageRecord | None = None
    """Where rollouts are recorded, and those found that were recorded before; None: nowhere."""
    free: asyncio.Semaphore | None = None
    """What bounds them; made if it is left out, and shared by copies."""

    def __post_init__(self) -> None:
        if self.free is None:
            object.__setattr__(self, "free", asyncio.Semaphore(self.concurrency))

    @asynccontextmanager
    async def in_flight(self) -> AsyncGenerator[None]:
        """Be one of the rollouts in flight."""
        assert self.free is not None
        async with self.free:
            yield

    async def groups(
        self,
        tasks: Sequence[Task],
        size: int,
        *,
        policy: Policy,
        sampling: SamplingOf,
        decided_after: int = 0,
        progress: Callable[[], None] | None = None,
    ) -> list[TrajectoryGroup]:
        """`size` scored siblings of each task, in the order of the tasks. All aliases of the agents but the frozen ones
        stand for `policy`. If the first `decided_after` of a group have the same reward, it has no more.

        A rollout that fails is data. Raises EngineError only if every one of them failed.
        """

        async def one(place: int, task: Task, sibling: int) -> Trajectory:
            async with self.in_flight():
                trajectory = await self.recorded(place, sibling, task, lambda: self.one(task, policy, sampling(task, sibling)))
            if progress:
                progress()
            return trajectory

        async def group(place: int, task: Task) -> TrajectoryGroup:
            done: list[Trajectory] = []
            for siblings in (range(decided_after), range(decided_after, size)):
                # A run that went on may have rolled the others out before, when one of the first had failed
                begun = self.stage is not None and any(self.stage.get(place, sibling, task.id) for sibling in siblings)
                if begun or not _decided(done):
                    done += await asyncio.gather(*(one(place, task, sibling) for sibling in siblings))
            return TrajectoryGroup(task_id=task.id, trajectories=done)

        groups = list(await asyncio.gather(*(group(place, task) for place, task in enumerate(tasks))))
        done = [t for one_group in groups for t in one_group.trajectories]
        if done and all(t.error for t in done):
            raise EngineError(f"all {len(done)} rollouts failed; the first: {done[0].error}")
        if self.stage is not None:
            for place, one_group in enumerate(groups):
                for sibling, t in enumerate(one_group.trajectories):
                    if t.error is not None and not t.error.startswith(EngineUnavailable.__name__):
                        await self.stage.add(place, sibling, t)
        return groups

    async def recorded(self, place: int, sibling: int, task: Task, roll: Callable[[], Awaitable[Trajectory]]) -> Trajectory:
        """The rollout that the stage has of this task's place and sibling; else a new one, which it keeps unless it failed."""
        if self.stage is None:
            return await roll()
        if (before := self.stage.get(place, sibling, task.id)) is not None:
            return before
        trajectory = await roll()
        if trajectory.error is None:
            await self.stage.add(place, sibling, trajectory)
        return trajectory

    async def one(self, task: Task, policy: Policy, sampling: Sampling, told: Told | None = None) -> Trajectory:
        """One scored rollout on a fork of its own. A failure of the agent is data; the store's when it forks is raised.

        `told`: the task's conversation, as this agent was told it before.
        """
        environment = await self._environment(task, policy, sampling, told)
        trajectory = await environment.run(self.agents[task.agent])
        return trajectory.model_copy(update={"rewards": await environment.score(trajectory)})

    async def tell(self, task: Task, policy: Policy, sampling: Sampling) -> Told:
        """Tell an agent the task's conversation, for all tasks that are asked of it."""
        return await (await self._environment(task, policy, sampling, None)).tell(self.agents[task.agent])

    async def _environment(self, task: Task, policy: Policy, sampling: Sampling, told: Told | None) -> Environment:
        agent = self.agents[task.agent]
        if told is None:
            fork = await self.store.fork(task.namespace, as_of=task.as_of or 0)
        else:
            fork = await told.memory.fork(task.namespace)
        return Environment(
            task=task,
            fork=fork,
            engine=self.engine,
            policies={alias: self.frozen.get(alias, policy) for alias in agent.aliases},
            sampling=sampling,
            weights=self.weights,
            scoring=self.scoring,
            judge=self.judge,
            told=told,
        )


def _decided(siblings: Sequence[Trajectory]) -> bool:
    """Whether there are some, all were scored, and all the same."""
    rewards = {t.reward for t in siblings}
    return len(rewards) == 1 and None not in rewards and not any(t.error for t in siblings)
