"""The outcome's advantage, and beside it what each step earned, compared with the siblings' steps at the same place.

Source: ReMemR1 (arXiv 2509.23040): A = alpha A_outcome + (1 - alpha) A_step with alpha 0.8, where A_step is taken over the
rollouts of one question at one step (there a chunk of the document).
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.credit.compared import by_place, centred
from trainer.credit.estimator import Estimate, Sibling, estimator
from trainer.credit.settings import Credit


@estimator("step_groups")
def step_groups(siblings: Sequence[Sibling], settings: Credit) -> Estimate:
    """A_it = alpha A_i + (1 - alpha) A_t(i). A step that earned nothing of its own, or stood alone at its place, has A_t = 0."""
    trajectories = [sibling.trajectory for sibling in siblings]
    outcomes = centred([one.outcome for one in siblings], scale_by_std=settings.scale_by_std)
    steps = by_place(trajectories, [one.earned for one in siblings], scale_by_std=settings.scale_by_std)
    advantages = [
        {step.index: settings.alpha * of_outcome + (1 - settings.alpha) * of_steps.get(step.index, 0.0) for step in one.steps}
        for one, of_outcome, of_steps in zip(trajectories, outcomes, steps.advantages, strict=True)
    ]
    return Estimate(advantages, {"steps_alone": steps.num_alone})
