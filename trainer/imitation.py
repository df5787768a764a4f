"""Supervised warm start: iterations that imitate what the log has of answers that users accepted, before any rollout is sampled.

Imitated are the calls of the accepted answer, and of its conversation those that wrote to memory. The gradient is that of the negative
log-likelihood: every call has advantage 1, and no ratio of new to old probability weighs it. What is imitated is recorded like
rollouts, so that its updates can be made again, and forgetting finds it.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence

from recollect.events import LoggedTrajectory
from recollect.trajectory import Step, Trajectory, TrajectoryGroup
from trainer.config import TrainConfig
from trainer.credit import Credited, Learning
from trainer.credit.credited import sample_of
from trainer.environments.from_log.gold import rests_on
from trainer.environments.tasks import Task
from trainer.recorded import StageRecord


def accepted_tasks(tasks: Sequence[Task], logged: Sequence[LoggedTrajectory], config: TrainConfig, number: int, *, base: str) -> list[Task]:
    """The tasks that iteration `number` imitates: some of the log's whose answer, of this base model, a user accepted; maybe none."""
    accepted = {one.trajectory.id for one in logged if any(feedback.accepted for feedback in one.feedback) and _is_of(one.trajectory, base)}
    found = [task for task in tasks if task.trajectory_ids and task.trajectory_ids[-1] in accepted]
    chosen = random.Random(f"imitate/{config.seed}/{number}").sample(range(len(found)), min(len(found), config.tasks_per_iteration))
    return [found[place] for place in sorted(chosen)]


async def imitated_groups(
    tasks: Sequence[Task], logged: Sequence[LoggedTrajectory], distrusted: Collection[str], stage: StageRecord, *, base: str
) -> list[TrajectoryGroup]:
    """The trajectories of each task as the log has them, its accepted answer last, recorded as the stage's rollouts.

    Earlier ones of another base model are left out, whose ids mean other words, and those that rest on a memory that is not trusted.
    """
    known = {
        one.trajectory.id: one.trajectory
        for one in logged
        if _is_of(one.trajectory, base) and not any(trust in distrusted for _, trust in rests_on(one.trajectory))
    }
    return [await _recorded(place, task, known, stage) for place, task in enumerate(tasks)]


async def _recorded(place: int, task: Task, known: Mapping[str, Trajectory], stage: StageRecord) -> TrajectoryGroup:
    found: list[Trajectory] = []
    for sibling, trajectory_id in enumerate(task.trajectory_ids):
        if trajectory_id not in known:
            continue
        if (before := stage.get(place, sibling, task.id)) is None:
            before = known[trajectory_id].model_copy(update={"session": task.id})
            await stage.add(place, sibling, before)
        found.append(before)
    return TrajectoryGroup(task_id=task.id, trajectories=found)


def imitated(groups: Sequence[TrajectoryGroup], learning: Learning) -> Credited:
    """The learner's calls that are imitated, each with advantage 1, and once however many groups have it."""
    calls = list({(trajectory.id, step.index): (trajectory, step) for trajectory, step in _calls(groups)}.values())
    learnt = [(trajectory, step) for trajectory, step in calls if learning.covers(step)]
    samples = [sample_of(trajectory, step, 1.0) for trajectory, step in learnt if step.trainable and trajectory.trainable]
    return Credited(
        samples=tuple(samples),
        num_groups=len(groups),
        num_flat=0,
        num_small=0,
        num_unscored=0,
        num_failed=sum(trajectory.error is not None for group in groups for trajectory in group.trajectories),
        num_untrainable=len(learnt) - len(samples),
        num_frozen=len(calls) - len(learnt),
    )


def _calls(groups: Sequence[TrajectoryGroup]) -> Iterator[tuple[Trajectory, Step]]:
    for group in groups:
        for place, trajectory in enumerate(group.trajectories, 1):
            for step in trajectory.steps if trajectory.error is None else ():
                # What was answered before may have been wrong; what was written then, the accepted answer rests on.
                if step.policy is not None and step.error is None and (step.memory_ops or place == len(group.trajectories)):
                    yield trajectory, step


def _is_of(trajectory: Trajectory, base: str) -> bool:
    return all(step.policy is None or step.policy.base == base for step in trajectory.steps)
