"""Supervised warm start: iterations that imitate what the log has of answers that users accepted, before any rollout is sampled.

The gradient is that of the negative log-likelihood: every call has advantage 1, and no ratio of new to old probability weighs it.
What is imitated is recorded like rollouts, so that its updates can be made again, and forgetting finds it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from recollect.events import LoggedTrajectory
from recollect.trajectory import Trajectory, TrajectoryGroup
from trainer.config import TrainConfig
from trainer.credit import Credited, Learning
from trainer.credit.credited import sample_of
from trainer.environments.tasks import Task
from trainer.recorded import StageRecord


def accepted_tasks(tasks: Sequence[Task], logged: Sequence[LoggedTrajectory], config: TrainConfig, number: int) -> list[Task]:
    """The tasks that iteration `number` imitates: some of the log's whose answer a user accepted; none if there is none."""
    accepted = {one.trajectory.id for one in logged if any(feedback.accepted for feedback in one.feedback)}
    found = [task for task in tasks if task.trajectory_ids and task.trajectory_ids[-1] in accepted]
    chosen = random.Random(f"imitate/{config.seed}/{number}").sample(range(len(found)), min(len(found), config.tasks_per_iteration))
    return [found[place] for place in sorted(chosen)]


async def imitated_groups(tasks: Sequence[Task], logged: Sequence[LoggedTrajectory], stage: StageRecord) -> list[TrajectoryGroup]:
    """What was said in each task's conversation and its accepted answer, as the log has them, recorded as the stage's rollouts."""
    known = {one.trajectory.id: one.trajectory for one in logged}
    return [await _recorded(place, task, known, stage) for place, task in enumerate(tasks)]


async def _recorded(place: int, task: Task, known: Mapping[str, Trajectory], stage: StageRecord) -> TrajectoryGroup:
    found: list[Trajectory] = []
    for sibling, trajectory_id in enumerate(task.trajectory_ids):
        if (before := stage.get(place, sibling, task.id)) is None:
            before = known[trajectory_id].model_copy(update={"session": task.id})
            await stage.add(place, sibling, before)
        found.append(before)
    return TrajectoryGroup(task_id=task.id, trajectories=found)


def imitated(groups: Sequence[TrajectoryGroup], learning: Learning) -> Credited:
    """The learner's calls of all trajectories, each with advantage 1."""
    whole = [trajectory for group in groups for trajectory in group.trajectories if trajectory.error is None]
    calls = [(trajectory, step) for trajectory in whole for step in trajectory.steps if step.policy is not None and step.error is None]
    learnt = [(trajectory, step) for trajectory, step in calls if learning.covers(step)]
    samples = [sample_of(trajectory, step, 1.0) for trajectory, step in learnt if step.trainable and trajectory.trainable]
    return Credited(
        samples=tuple(samples),
        num_groups=len(groups),
        num_flat=0,
        num_small=0,
        num_unscored=0,
        num_failed=sum(len(group.trajectories) for group in groups) - len(whole),
        num_untrainable=len(learnt) - len(samples),
        num_frozen=len(calls) - len(learnt),
    )
