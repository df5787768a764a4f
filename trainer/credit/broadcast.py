"""One advantage a trajectory, stamped on each of its steps.

Source: GRPO (Shao et al. 2024, arXiv 2402.03300, section 4.1.2: outcome supervision) with `scale_by_std`; without it Dr. GRPO
(Liu et al. 2025, arXiv 2503.20783). For several calls a trajectory: Multi-Conv DAPO of MemAgent (arXiv 2507.02259).
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.credit.compared import centred
from trainer.credit.estimator import Estimate, Sibling, estimator
from trainer.credit.settings import Credit


@estimator("broadcast")
def broadcast(siblings: Sequence[Sibling], settings: Credit) -> Estimate:
    """A_i = r_i - mean(r), over std(r) if `scale_by_std`, on every step of sibling i."""
    advantages = centred([sibling.reward for sibling in siblings], scale_by_std=settings.scale_by_std)
    return Estimate([dict.fromkeys((s.index for s in one.trajectory.steps), a) for one, a in zip(siblings, advantages, strict=True)])
