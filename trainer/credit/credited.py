"""From groups to samples: the estimator's advantages on the calls that are trained on, and the count of everything that gave none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recollect.trajectory import Step, Trajectory, TrajectoryGroup
from trainer.credit.compared import EPSILON, flat
from trainer.credit.estimator import ESTIMATORS, Sibling
from trainer.credit.settings import Credit
from trainer.samples import Sample


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
    """Groups in which no step has an advantage: nothing to compare, skipped."""
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
    num_flat_outcome: int = 0
    """Groups in which every trajectory from the task's beginning had the same outcome. Where steps are told apart, some of them teach."""
    num_uncredited: int = 0
    """Model calls that the estimator gave no advantage, such as those that a re-rolled sibling repeats."""
    skipped: Mapping[str, int] = field(default_factory=dict[str, int])
    """What the estimator could not compare, by its own reasons."""
    by_role: Mapping[str, float] = field(default_factory=dict[str, float])
    """The mean absolute advantage of the samples, by the role of their module."""

    def figures(self) -> dict[str, float]:
        """Everything but the samples, as it stands in a line of metrics.jsonl."""
        return {
            "groups": self.num_groups,
            "groups_flat": self.num_flat,
            "groups_flat_outcome": self.num_flat_outcome,
            "groups_small": self.num_small,
            "unscored": self.num_unscored,
            "failed": self.num_failed,
            "untrainable_calls": self.num_untrainable,
            "frozen_calls": self.num_frozen,
            "uncredited_calls": self.num_uncredited,
            **{f"credit/{name}": count for name, count in sorted(self.skipped.items())},
            **{f"advantage/{role}": size for role, size in sorted(self.by_role.items())},
        }


def credit(groups: Sequence[TrajectoryGroup], settings: Credit = Credit(), *, learning: Learning = EVERYTHING) -> Credited:
    """The samples of all groups, with the advantages of the estimator that the settings name. A group without any is skipped."""
    estimate = ESTIMATORS[settings.use]
    samples: list[Sample] = []
    counts, skipped = Counter[str](), Counter[str]()
    sizes: dict[str, list[float]] = {}
    for group in groups:
        siblings = [Sibling(t, r) for t in group.trajectories if t.error is None and (r := t.reward) is not None]
        counts["unscored"] += len(group.trajectories) - len(siblings)
        counts["failed"] += sum(t.error is not None for t in group.trajectories)
        if len(siblings) < 2:
            counts["small"] += 1
            continue
        found = estimate(siblings, settings)
        skipped.update(found.skipped)
        counts["flat_outcome"] += flat([one.outcome for one in siblings if one.trajectory.forked is None])
        if all(abs(a) < EPSILON for of_steps in found.advantages for a in of_steps.values()):
            counts["flat"] += 1
            continue
        for sibling, advantages in zip(siblings, found.advantages, strict=True):
            trajectory = sibling.trajectory
            calls = [step for step in trajectory.steps if step.policy is not None and step.error is None]
            learnt = [step for step in calls if learning.covers(step)]
            valued = [step for step in learnt if step.index in advantages]
            trained = [step for step in valued if step.trainable and trajectory.trainable]
            for step in trained:
                sizes.setdefault(step.role, []).append(abs(advantages[step.index]))
            samples += [sample_of(trajectory, step, advantages[step.index]) for step in trained]
            counts["frozen"] += len(calls) - len(learnt)
            counts["uncredited"] += len(learnt) - len(valued)
            counts["untrainable"] += len(valued) - len(trained)
    return Credited(
        samples=tuple(samples),
        num_groups=len(groups),
        num_flat=counts["flat"],
        num_small=counts["small"],
        num_unscored=counts["unscored"],
        num_failed=counts["failed"],
        num_untrainable=counts["untrainable"],
        num_frozen=counts["frozen"],
        num_flat_outcome=counts["flat_outcome"],
        num_uncredited=counts["uncredited"],
        skipped=dict(skipped),
        by_role={role: sum(found) / len(found) for role, found in sizes.items()},
    )


def sample_of(trajectory: Trajectory, step: Step, advantage: float) -> Sample:
    """A call with its advantage."""
    return Sample(
        prompt_ids=tuple(step.prompt_ids or ()),
        completion_ids=tuple(step.completion_ids or ()),
        logprobs=tuple(step.logprobs or ()),
        advantage=advantage,
        policy=step.policy.name if step.policy else "",
        trajectory_id=trajectory.id,
        step=step.index,
    )
