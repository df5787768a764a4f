"""The match's reward follows the evidence: it goes to the steps that wrote what the answer was given, by provenance.

Source: Fine-Mem (arXiv 2601.08435), evidence-anchored reward attribution: r_EARA(t) = (1 - beta) r / T + beta N_t
(trainer/rewards/attribution.py), over the T writing steps of a trajectory, so that they sum to r.
"""

from __future__ import annotations

from collections.abc import Sequence

from recollect.trajectory import Trajectory
from trainer.credit.compared import by_place, centred
from trainer.credit.estimator import Estimate, Sibling, estimator
from trainer.credit.settings import Credit
from trainer.rewards.attribution import Question, evidence_attribution
from trainer.rewards.provenance import answering, shown, writers, writing


@estimator("evidence")
def evidence(siblings: Sequence[Sibling], settings: Credit) -> Estimate:
    """A writing step is compared with the siblings' at its place by T r_EARA(t) + the other rewards, every other step by the whole reward.

    The factor T keeps both in one unit: over a trajectory's writing steps the mean is its reward, and with beta 0 this is
    broadcast. A writing step that stands alone at its place takes its trajectory's advantage.
    """
    trajectories = [sibling.trajectory for sibling in siblings]
    whole = centred([sibling.reward for sibling in siblings], scale_by_std=settings.scale_by_std)
    steps = by_place(trajectories, [attributed(sibling, settings) for sibling in siblings], scale_by_std=settings.scale_by_std)
    advantages = [
        {step.index: of_steps.get(step.index, advantage) for step in one.steps}
        for one, advantage, of_steps in zip(trajectories, whole, steps.advantages, strict=True)
    ]
    without = sum(not _evidence(one, settings) for one in trajectories)
    return Estimate(advantages, {"steps_alone": steps.num_alone, "without_evidence": without})


def attributed(sibling: Sibling, settings: Credit) -> dict[int, float]:
    """By its index, T r_EARA(t) of each writing step, with the other rewards added; nothing where no step writes."""
    trajectory = sibling.trajectory
    steps = [step.index for step in writing(trajectory)]
    if not steps or not trajectory.rewards:
        return {}
    match = (trajectory.rewards[0].score or 0.0) * trajectory.rewards[0].weight
    shares = evidence_attribution(steps, writers(trajectory), [Question(match, _evidence(trajectory, settings))], beta=settings.beta)
    return {index: len(steps) * share + sibling.reward - match for index, share in shares.items()}


def _evidence(trajectory: Trajectory, settings: Credit) -> tuple[str, ...]:
    """The memories that the answer stands on."""
    last = answering(trajectory)
    if settings.anchor == "cited" and last is not None and last.cited:
        return tuple(last.cited)
    return tuple(memory.id for memory in shown(trajectory))
