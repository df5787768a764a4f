"""Samples: recorded model calls with their advantage, as the optimiser takes them, and their grouping by length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One recorded model call. `logprobs` are the sampler's, one for each id of `completion_ids`."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    advantage: float
    policy: str
    """The name of the policy that sampled it."""
    trajectory_id: str
    step: int

    def __post_init__(self) -> None:
        if not self.prompt_ids or not self.completion_ids:
            raise ValueError(f"step {self.step} of {self.trajectory_id}: a sample needs a prompt and a completion")
        if len(self.logprobs) != len(self.completion_ids):
            raise ValueError(
                f"step {self.step} of {self.trajectory_id}: {len(self.logprobs)} log-probs for {len(self.completion_ids)} tokens"
            )

    @property
    def tokens(self) -> int:
        """Tokens of prompt and completion together."""
        return len(self.prompt_ids) + len(self.completion_ids)


def by_length(samples: Sequence[Sample]) -> list[Sample]:
    """The samples in ascending length, so that neighbours pad to little more than their own length."""
    return sorted(samples, key=lambda s: (len(s.prompt_ids), len(s.completion_ids)))


def within_window(samples: Sequence[Sample], window: int) -> tuple[list[Sample], int]:
    """The samples that fit into `window` tokens, and how many did not."""
    kept = [s for s in samples if s.tokens <= window]
    return kept, len(samples) - len(kept)
