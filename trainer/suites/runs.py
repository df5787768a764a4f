"""The runs of an evaluation: every task, as often as asked, by every contender, through the environment that trains."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from recollect.policy import Policy
from recollect.trajectory import Trajectory, Usage
from server.engines.base import Sampling
from trainer.environments.tasks import Task
from trainer.rollout import Rollouts
from trainer.suites.contender import OWN, Contender
from trainer.suites.metrics import scores
from trainer.suites.results import Key, Result, ResultFolder
from trainer.suites.telling import Tellings


@dataclass(frozen=True, slots=True)
class Runs:
    """What is to be run. `columns` gives the metrics of each set, `sampling` all but the seed of a run."""

    contenders: Sequence[Contender]
    tasks: Sequence[Task]
    repeats: int
    sampling: Sampling
    seed: int
    columns: Mapping[str, Mapping[str, str]]

    @property
    def total(self) -> int:
        """How many runs there are."""
        return len(self.contenders) * len(self.tasks) * self.repeats

    def left(self, folder: ResultFolder) -> list[tuple[Key, Task]]:
        """The runs that the folder does not hold yet, or holds as failed, repeat by repeat, so that a part is a fair sample."""
        done = {result.key for result in folder.results() if result.error is None}
        return [(key, task) for key, task in self._all() if key not in done]

    async def run(self, rollouts: Rollouts, policies: Mapping[str, Policy], folder: ResultFolder, told: Callable[[Result], None]) -> None:
        """Make the runs that are left, `rollouts.concurrency` at once, and append each result when it is there.

        `policies` gives what samples under a contender's policy name. Raises what the store raises when it forks; an engine that
        fails is a result. Cancelled, it keeps what was appended.
        """
        left = self.left(folder)
        waiting = iter(left)
        tellings = Tellings(rollouts, policies, self.sampling, self.seed, folder.note)
        tellings.expect(left)

        async def work() -> None:
            for key, task in waiting:
                result = await self._one(key, task, rollouts, policies[key.contender.policy], tellings)
                folder.append(result)
                told(result)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(rollouts.concurrency):
                    group.create_task(work())
        except ExceptionGroup as several:
            raise several.exceptions[0] from several
        finally:
            await tellings.close()

    def _all(self) -> Iterator[tuple[Key, Task]]:
        for repeat in range(self.repeats):
            for task in self.tasks:
                for contender in self.contenders:
                    yield Key(contender, task.id, repeat), task

    async def _one(self, key: Key, task: Task, rollouts: Rollouts, policy: Policy, tellings: Tellings) -> Result:
        agent = key.contender.agent
        # The seed is the same for all contenders: what is compared differs in nothing else.
        sampling = replace(self.sampling, seed=zlib.crc32(f"{self.seed}/{task.id}/{key.repeat}".encode()))
        asked = task if agent == OWN else task.model_copy(update={"agent": agent})
        said = await tellings.of(key, task)
        clock = time.perf_counter()
        trajectory = await rollouts.one(asked, policy, sampling, said)
        seconds = time.perf_counter() - clock
        tellings.done(key, task)
        return _result(key, task, trajectory, len(said.steps) if said else 0, seconds, self.columns[task.labels["set"]])


def _result(key: Key, task: Task, trajectory: Trajectory, num_before: int, seconds: float, columns: Mapping[str, str]) -> Result:
    """`num_before`: steps of the conversation that was told before, which other questions share."""
    own = trajectory.steps[num_before:]
    used = sum((step.usage for step in own), Usage())
    return Result(
        agent=key.contender.agent,
        policy=key.contender.policy,
        task=key.task,
        repeat=key.repeat,
        labels=task.labels,
        scores=scores(task, trajectory, columns),
        error=trajectory.error,
        answer=trajectory.answer,
        calls=sum(step.policy is not None for step in own),
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        seconds=seconds,
    )
