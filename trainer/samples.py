"""Samples: recorded model calls with their advantage, as the optimiser takes them, and their grouping by length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


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
    count: int = 1
    """How many identical calls this one stands for; `advantage` is their mean."""

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
    """The samples in ascending length, so that neighbours pad to little more than their own length, and those of one prompt
    together, so that it is computed once."""
    return sorted(samples, key=lambda s: (len(s.prompt_ids), s.prompt_ids, len(s.completion_ids)))


def merge_identical(samples: Sequence[Sample]) -> list[Sample]:
    """One sample for calls of one policy with the same prompt and completion: `count` of them, with their mean advantage.

    The gradient of a mean over tokens is the same, and siblings repeat each other often. What sums to no advantage is kept,
    so that token counts stay those of all calls.
    """
    merged: dict[tuple[str, tuple[int, ...], tuple[int, ...]], Sample] = {}
    for sample in samples:
        key = (sample.policy, sample.prompt_ids, sample.completion_ids)
        if (known := merged.get(key)) is None:
            merged[key] = sample
        else:
            count = known.count + sample.count
            advantage = (known.advantage * known.count + sample.advantage * sample.count) / count
            merged[key] = replace(known, count=count, advantage=advantage)
    return list(merged.values())


def within_window(samples: Sequence[Sample], window: int) -> tuple[list[Sample], int]:
    """The samples that fit into `window` tokens, and how many did not."""
    kept = [s for s in samples if s.tokens <= window]
    return kept, len(samples) - len(kept)
