"""The figures of one iteration: rewards and their parts, what was skipped, drift, time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recollect.trajectory import TrajectoryGroup
from trainer.batches import Batch
from trainer.environments.tasks import Task
from trainer.evaluate import mean

OF_SAMPLING = ("importance_", "logprob_difference_", "kl_sampler")


@dataclass(slots=True)
class Timing:
    """Seconds that an iteration spent on its parts: on rollouts, what it waited for them."""

    rollout_s: float = 0.0
    rollouts_s: float = 0.0
    """What the rollouts themselves took, which may have begun in an iteration before; no part of the total."""
    update_s: float = 0.0
    rest_s: float = 0.0
    """Of the update: until the engine rested, and until it was back."""
    sync_s: float = 0.0

    @property
    def total_s(self) -> float:
        return self.rollout_s + self.update_s + self.sync_s


def iteration_metrics(
    number: int,
    *,
    tasks: Sequence[Task],
    groups: Sequence[TrajectoryGroup],
    group_size: int,
    batch: Batch,
    update: Mapping[str, float],
    lag: float,
    timing: Timing,
) -> dict[str, Any]:
    """One line of metrics.jsonl. Rewards are means over scored trajectories; `lag` is in updates, averaged over samples.

    `unscored/<reward>` counts the trajectories, among those that did not fail, that this reward could not be found for.
    """
    imitated = sum(len(group.trajectories) for group in groups) if batch.imitates else 0
    if batch.imitates:  # nothing was sampled: neither rewards nor ratios say anything of the policy
        groups = [group.model_copy(update={"trajectories": []}) for group in groups]
        update = {name: value for name, value in update.items() if not name.startswith(OF_SAMPLING)}
    trajectories = [t for group in groups for t in group.trajectories]
    calls = sum(step.policy is not None for t in trajectories for step in t.own_steps)
    return {
        "iteration": number,
        "reward": mean([t.reward for t in trajectories]),
        **_by_reward(groups),
        **_by_kind(tasks, groups),
        "tasks_logged": sum(task.source == "logged" for task in tasks),
        "tasks_generated": sum(task.source == "generated" for task in tasks),
        **batch.credited.figures(),
        "groups_decided": 0 if batch.imitates else sum(_whole(group) < group_size for group in groups),
        "too_long_calls": batch.num_too_long,
        "batch_sha256": batch.sha256,
        "rollouts": len(trajectories),
        "imitated": imitated,
        "calls": calls,
        "version_lag": lag,
        "imitates": int(batch.imitates),
        **update,
        "rollout_s": timing.rollout_s,
        "rollouts_s": timing.rollouts_s,
        "update_s": timing.update_s,
        "rest_s": timing.rest_s,
        "sync_s": timing.sync_s,
        "calls_per_s": calls / timing.total_s if timing.total_s else 0.0,
    }


def _whole(group: TrajectoryGroup) -> int:
    """How many of a group began at the task's beginning."""
    return sum(t.forked is None for t in group.trajectories)


def _by_reward(groups: Sequence[TrajectoryGroup]) -> dict[str, float | None]:
    rewards = [reward for group in groups for t in group.trajectories for reward in t.rewards]
    names = sorted({reward.name for reward in rewards})
    means = {f"reward/{name}": mean([r.score for r in rewards if r.name == name]) for name in names}
    scoreless = Counter(r.name for group in groups for t in group.trajectories if t.error is None for r in t.rewards if r.score is None)
    return {**means, **{f"unscored/{name}": count for name, count in sorted(scoreless.items())}}


def _by_kind(tasks: Sequence[Task], groups: Sequence[TrajectoryGroup]) -> dict[str, float | None]:
    found: dict[str, list[float | None]] = {}
    for task, group in zip(tasks, groups, strict=True):
        found.setdefault(f"reward/{task.kind}", []).extend(t.reward for t in group.trajectories)
        found.setdefault(f"reward/{task.source}", []).extend(t.reward for t in group.trajectories)
    return {name: mean(values) for name, values in sorted(found.items())}
