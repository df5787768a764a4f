"""The iterations of a run: roll out, reward, credit, update, and a checkpoint, so that a run that died goes on behind its last one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

from recollect.trajectory import TrajectoryGroup
from server.engines.base import Sampling
from trainer.batches import batch_of
from trainer.credit import Learning
from trainer.environments.tasks import Task
from trainer.imitation import accepted_tasks, imitated_groups
from trainer.iteration import Timing, iteration_metrics
from trainer.local_rollouts import with_forks
from trainer.progress import Progress
from trainer.recorded import stage_of
from trainer.run import Run
from trainer.samples import Sample
from trainer.task_pool import Draw


class Learned(NamedTuple):
    """The metrics of all iterations, and the samples of the last update that this process made."""

    iterations: list[dict[str, Any]]
    samples: list[Sample]


async def learned(run: Run, *, after_s: float) -> Learned:
    """All iterations, or as many as leave `after_s` seconds of the run's time. Those behind which a checkpoint stands are not repeated."""
    drawing = run.config.model_copy(update={"iterations": max(1, run.config.iterations - run.config.imitate)})
    draw, found, last = Draw(run.tasks, drawing), run.folder.kept_metrics(), list[Sample]()
    for number in range(1, len(found) + 1):
        _tasks(run, draw, number)
    async with _Ahead(run, draw, len(found)) as ahead:
        for number in range(len(found) + 1, run.config.iterations + 1):
            if found and _late(run, found, after_s):
                run.listen(Progress("train", number - 1, run.config.iterations, text=f"the time is over after iteration {number - 1}"))
                break
            metrics, samples = await _iteration(run, number, ahead)
            last = samples or last
            run.folder.append_metrics(metrics)
            await asyncio.to_thread(run.folder.checkpointed, number, run.learner.checkpoint)
            run.listen(Progress("train", number, run.config.iterations, metrics=metrics))
            found.append(metrics)
    return Learned(found, last)


class _Rolled(NamedTuple):
    """The tasks of an iteration with their groups, and the seconds that those took."""

    tasks: list[Task]
    groups: list[TrajectoryGroup]
    seconds: float


class _Ahead:
    """The rollouts of the iterations to come: `max_lag` more are begun when those that the next update needs are done."""

    def __init__(self, run: Run, draw: Draw, done: int) -> None:
        self._run, self._draw, self._begun = run, draw, done
        self._waiting = deque[asyncio.Task[_Rolled]]()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for rolling in self._waiting:
            rolling.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def next(self) -> _Rolled:
        """What the next iteration learns from. Raises what rollouts do."""
        if not self._waiting:
            self._begin()
        rolled = await self._waiting[0]
        self._waiting.popleft()
        while len(self._waiting) < self._run.config.max_lag and self._begun < self._run.config.iterations:
            self._begin()
        return rolled

    def _begin(self) -> None:
        self._begun += 1
        tasks = _tasks(self._run, self._draw, self._begun)
        self._waiting.append(asyncio.create_task(_timed(self._run, self._begun, tasks)))


def _late(run: Run, found: Sequence[Mapping[str, Any]], after_s: float) -> bool:
    """Whether one more iteration would leave too little time for what comes after the last."""
    if run.until is None:
        return False
    last = next((row for row in reversed(found) if not row["imitates"]), None)  # of those that were rolled out
    seconds = last["rollouts_s"] + last["update_s"] + last["sync_s"] if last else after_s
    return time.monotonic() + seconds + after_s > run.until


async def _iteration(run: Run, number: int, ahead: _Ahead) -> tuple[dict[str, Any], list[Sample]]:
    """Sync when it is time, roll out with the newest candidate, reward, credit, update."""
    timing, clock = Timing(), time.perf_counter()
    # Only what a checkpoint stands behind is handed to the engine: a candidate's name is one set of weights for ever.
    await run.candidates.sync(every=run.config.sync_every)
    timing.sync_s = time.perf_counter() - clock

    clock = time.perf_counter()
    tasks, groups, timing.rollouts_s = await ahead.next()
    timing.rollout_s = time.perf_counter() - clock

    clock = time.perf_counter()
    batch = batch_of(groups, run.config, number, alias=run.alias, window=run.learner.window)
    lag = 0.0 if batch.imitates else _lag(batch.samples, run)
    update: Mapping[str, float] = {}
    if batch.samples:
        waited = run.device.waited_s
        update = await run.device.use(partial(run.learner.update, batch.samples, corrected=not batch.imitates))
        timing.rest_s = run.device.waited_s - waited
    timing.update_s = time.perf_counter() - clock
    size = run.config.group_size
    return iteration_metrics(
        number, tasks=tasks, groups=groups, group_size=size, batch=batch, update=update, lag=lag, timing=timing
    ), batch.samples


def _tasks(run: Run, draw: Draw, number: int) -> list[Task]:
    """The tasks of an iteration; to be asked for in order."""
    if number <= run.config.imitate:
        return accepted_tasks(run.tasks.logged, run.log.trajectories, run.config, number, base=run.engine.base)
    return draw.next()


async def _timed(run: Run, number: int, tasks: list[Task]) -> _Rolled:
    clock = time.perf_counter()
    groups = await _rolled_out(run, number, tasks)
    return _Rolled(tasks, groups, time.perf_counter() - clock)


async def _rolled_out(run: Run, number: int, tasks: Sequence[Task]) -> list[TrajectoryGroup]:
    sampling = Sampling(temperature=run.config.optimisation.temperature, max_tokens=run.max_tokens)
    rollouts, config = run.rollouts_of(stage_of(number)), run.config
    if number <= config.imitate:
        logged, stage = run.log.trajectories, run.recorded.stage(stage_of(number))
        return await imitated_groups(tasks, logged, config.from_log.distrusted, stage, base=run.engine.base)
    async with run.candidates.held() as policy:
        how: Any = {"policy": policy, "sampling": lambda *_: sampling}
        groups = await rollouts.groups(tasks, config.group_size, decided_after=config.decided_after, **how)
        return await with_forks(rollouts, tasks, groups, config.credit, learning=Learning(run.alias, config.roles), **how)


def _lag(samples: Sequence[Sample], run: Run) -> float:
    """How many updates older than the model the calls' policies are, on average."""
    lags = [(run.learner.updates - run.candidates.updates_of(sample.policy), sample.count) for sample in samples]
    return sum(lag * count for lag, count in lags) / sum(count for _, count in lags) if lags else 0.0
