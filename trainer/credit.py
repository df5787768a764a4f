"""Credit: from the rewards of a group of trajectories to one advantage a step.

Source: GRPO (Shao et al. 2024) without division by the standard deviation (Dr. GRPO, Liu et al. 2025); one advantage a
trajectory, stamped on each of its model calls (Multi-Conv DAPO of MemAgent, Yu et al. 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recollect.trajectory import Step, Trajectory, TrajectoryGroup
from trainer.samples import Sample

EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Learning:
    """Whose model calls are trained on; all others are frozen, as Memory-R1 trains its manager and its answer agent in turn.

    `alias`: what the agents call the policy by (None: every one). `roles`: of modules (empty: all), where one alias plays several.
    """

    alias: str | None = None
    roles: tuple[str, ...] = ()

    def covers(self, step: Step) -> bool:
        """Whether a model call is trained on. One that names no alias is taken by its adapter, and without one for the learner's."""
        called = step.alias or (step.policy.adapter if step.policy else None) or self.alias
        return (self.alias is None or called == self.alias) and (not self.roles or step.role in self.roles)


EVERYTHING = Learning()


@dataclass(frozen=True, slots=True)
class Credited:
    """The samples of some groups, and the count of everything that gave none."""

    samples: tuple[Sample, ...]
    num_groups: int
    num_flat: int
    """Groups in which all rewards were equal: nothing to compare, skipped."""
    num_small: int
    """Groups with fewer than two scored trajectories, skipped."""
    num_unscored: int
    """Trajectories without a reward, dropped."""
    num_failed: int
    """Trajectories that ended in an error; they are among the unscored."""
    num_untrainable: int
    """Model calls of credited trajectories without exact tokens or log-probs of the policy's own, dropped."""
    num_frozen: int = 0
    """Model calls of credited trajectories that are not the learner's: no token of theirs has a weight in the gradient."""


def credit(groups: Sequence[TrajectoryGroup], *, scale_by_std: bool = False, learning: Learning = EVERYTHING) -> Credited:
    """Advantage of a trajectory = its reward minus its group's mean, optionally over the group's standard deviation."""
    samples: list[Sample] = []
    flat = small = unscored = failed = untrainable = frozen = 0
    for group in groups:
        scored = [(t, r) for t in group.trajectories if t.error is None and (r := t.reward) is not None]
        unscored += len(group.trajectories) - len(scored)
        failed += sum(t.error is not None for t in group.trajectories)
        if len(scored) < 2:
            small += 1
            continue
        rewards = [reward for _, reward in scored]
        mean = sum(rewards) / len(rewards)
        std = (sum((r - mean) ** 2 for r in rewards) / len(rewards)) ** 0.5
        if std < EPSILON:
            flat += 1
            continue
        for trajectory, reward in scored:
            advantage = (reward - mean) / (std if scale_by_std else 1.0)
            calls = [step for step in trajectory.steps if step.policy is not None and step.error is None]
            learnt = [step for step in calls if learning.covers(step)]
            stamped = _stamped(trajectory, learnt, advantage)
            samples += stamped
            untrainable += len(learnt) - len(stamped)
            frozen += len(calls) - len(learnt)
    return Credited(tuple(samples), len(groups), flat, small, unscored, failed, untrainable, frozen)


def _stamped(trajectory: Trajectory, calls: Sequence[Step], advantage: float) -> list[Sample]:
    """A sample for each of a trajectory's calls that can be trained on."""
    return [
        Sample(
            prompt_ids=tuple(step.prompt_ids or ()),
            completion_ids=tuple(step.completion_ids or ()),
            logprobs=tuple(step.logprobs or ()),
            advantage=advantage,
            policy=step.policy.name if step.policy else "",
            trajectory_id=trajectory.id,
            step=step.index,
        )
        for step in calls
        if step.trainable and trajectory.trainable
    ]
