"""What a policy answered when it was measured: what a run's beginning and its end are compared by."""

from __future__ import annotations

from recollect.manifest import Fingerprint
from recollect.model import Record
from trainer.evaluate import Evaluation


class Measured(Record):
    """A policy's answers: to the held-out tasks, to the canaries (how many it failed), to the fingerprint's prompts."""

    held_out: Evaluation
    canaries_failed: int
    fingerprint: Fingerprint
