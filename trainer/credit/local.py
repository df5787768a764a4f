"""The global advantage of each trajectory, and beside it that among siblings which were rolled out again from one intermediate memory.

Source: Memory-R2 (arXiv 2605.21768), LoGo-GRPO: once siblings have written different memories they share no state, and comparing
their later steps is unfair; local re-rollouts share it. trainer/local_rollouts.py makes them.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.credit.compared import centred, flat
from trainer.credit.estimator import Estimate, Sibling, estimator
from trainer.credit.settings import Credit


@estimator("local")
def local(siblings: Sequence[Sibling], settings: Credit) -> Estimate:
    """A = A_global + local_weight A_local.

    A_global compares the trajectories that began at the task's beginning. A_local compares, from the fork on, those that were
    re-rolled with each other and with the one that they were forked from; what they repeat of it is not trained on twice.
    """
    whole = [number for number, one in enumerate(siblings) if one.trajectory.forked is None]
    advantages: list[dict[int, float]] = [{} for _ in siblings]
    if whole:
        found = centred([siblings[number].reward for number in whole], scale_by_std=settings.scale_by_std)
        for number, advantage in zip(whole, found, strict=True):
            advantages[number] = dict.fromkeys((step.index for step in siblings[number].trajectory.steps), advantage)
    groups, skipped = _forks(siblings), {"forks": 0, "forks_flat": 0, "forks_alone": 0, "groups_unforked": 0}
    skipped["groups_unforked"] = int(not groups)
    for (_, calls), members in groups.items():
        rewards = [siblings[number].reward for number in members]
        skipped["forks"] += 1
        skipped["forks_alone"] += len(members) < 2
        skipped["forks_flat"] += len(members) > 1 and flat(rewards)
        for number, advantage in zip(members, centred(rewards, scale_by_std=settings.scale_by_std), strict=True):
            for step in siblings[number].trajectory.after_call(calls):
                before = advantages[number].get(step.index, 0.0)
                advantages[number][step.index] = before + settings.local_weight * advantage
    return Estimate(advantages, skipped)


def _forks(siblings: Sequence[Sibling]) -> dict[tuple[str, int], list[int]]:
    """The siblings of each fork, by the trajectory and the number of calls that they share: the one forked from first, if it was scored."""
    by_id = {one.trajectory.id: number for number, one in enumerate(siblings)}
    found: dict[tuple[str, int], list[int]] = {}
    for number, one in enumerate(siblings):
        if (fork := one.trajectory.forked) is not None:
            origin = by_id.get(fork.trajectory_id)
            found.setdefault((fork.trajectory_id, fork.calls), [] if origin is None else [origin]).append(number)
    return found
