"""Local re-rollouts: siblings that begin again from an intermediate memory of one trajectory (Memory-R2, arXiv 2605.21768).

The trajectory's first calls are repeated as they were recorded, by the same agent on a fork of its own: the memory is then what it
was, word for word, with its provenance, and all that is needed for it is the record.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

from recollect.policy import Policy
from recollect.trajectory import Forked, Step, Trajectory, TrajectoryGroup
from trainer.credit.credited import EVERYTHING, Learning
from trainer.credit.settings import Credit
from trainer.environments.tasks import Task
from trainer.repeating import RepeatingEngine
from trainer.rollout import Rollouts, SamplingOf


async def with_forks(
    rollouts: Rollouts,
    tasks: Sequence[Task],
    groups: Sequence[TrajectoryGroup],
    settings: Credit,
    *,
    policy: Policy,
    sampling: SamplingOf,
    learning: Learning = EVERYTHING,
) -> list[TrajectoryGroup]:
    """The groups with their re-rolled siblings behind the others, `forked` set; as they are unless the estimator is `local`.

    A group without a trajectory that can be forked stays as it is, and credit counts it. A rollout that fails is data.
    """
    if settings.use != "local":
        return list(groups)

    async def one(task: Task, origin: Trajectory, calls: int, sibling: int) -> Trajectory:
        engine = RepeatingEngine(rollouts.engine, sampled(origin)[:calls])
        rolled = await replace(rollouts, engine=engine).one(task, policy, sampling(task, sibling))
        return rolled.model_copy(update={"forked": Forked(trajectory_id=origin.id, calls=calls)})

    async def at(place: int, task: Task, fork: tuple[Trajectory, int], sibling: int) -> Trajectory:
        async with rollouts.in_flight():
            return await rollouts.recorded(place, sibling, task, lambda: one(task, *fork, sibling))

    async def of_group(place: int, task: Task, group: TrajectoryGroup) -> TrajectoryGroup:
        chosen = [fork for fork in forks(group, settings.forks, learning) for _ in range(settings.rerolls)]
        first = len(group.trajectories)
        rolled = await asyncio.gather(*(at(place, task, fork, first + number) for number, fork in enumerate(chosen)))
        return group.model_copy(update={"trajectories": [*group.trajectories, *rolled]})

    pairs = zip(tasks, groups, strict=True)
    return list(await asyncio.gather(*(of_group(place, task, group) for place, (task, group) in enumerate(pairs))))


def forks(group: TrajectoryGroup, count: int, learning: Learning = EVERYTHING) -> list[tuple[Trajectory, int]]:
    """At most `count` places of a group to begin again at: a trajectory, and how many of its calls are repeated.

    Drawn from the calls that learn and have one before them, of trajectories without a failure; a function of the group alone.
    """
    places = [
        (trajectory, number)
        for trajectory in group.trajectories
        if trajectory.reward is not None and trajectory.error is None and trajectory.trainable
        for calls in [sampled(trajectory)]
        if all(step.error is None for step in calls)
        for number, step in enumerate(calls)
        if number and step.trainable and learning.covers(step)
    ]
    rng = random.Random(" ".join(trajectory.id for trajectory in group.trajectories))
    return rng.sample(places, min(count, len(places)))


def sampled(trajectory: Trajectory) -> list[Step]:
    """The model calls."""
    return [step for step in trajectory.steps if step.policy is not None]
