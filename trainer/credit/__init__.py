"""Credit: from the rewards of a group of trajectories to one advantage a step. An estimator is a file, known by name."""

from trainer.credit import broadcast, evidence, local, step_groups
from trainer.credit.credited import EVERYTHING, Credited, Learning, credit
from trainer.credit.estimator import Estimate, Estimator, Sibling, estimator
from trainer.credit.settings import Credit

BUILT_IN = (broadcast, step_groups, evidence, local)
"""The estimators that come with Recollect: importing them registers them."""

__all__ = ["BUILT_IN", "EVERYTHING", "Credit", "Credited", "Estimate", "Estimator", "Learning", "Sibling", "credit", "estimator"]
