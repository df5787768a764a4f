"""Evidence-anchored attribution of the final reward to the steps that wrote memories (Fine-Mem, arXiv 2601.08435)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BETA = 0.5
"""Fine-Mem's share of the reward that follows the evidence; the rest is spread evenly."""


@dataclass(frozen=True, slots=True)
class Question:
    """The score of one answer, and the ids of the memories that were retrieved for it."""

    score: float
    retrieved: tuple[str, ...]


def evidence_attribution(
    steps: Sequence[int], writers: Mapping[str, int], questions: Sequence[Question], *, beta: float = BETA
) -> dict[int, float]:
    """The reward of each writing step t: (1 - beta) r / T + beta N_t, where r is the mean score of the n questions.

    N_t is the sum over questions j, and over memories retrieved for j that t wrote, of s_j / (|retrieved_j| n). `steps` are
    the T writing steps, `writers` maps a memory to the step that wrote it last. What was retrieved and written by no step
    here, and the score of a question for which nothing was retrieved, is spread evenly; so the rewards always sum to r.
    Raises ValueError without steps or questions.
    """
    if not steps or not questions:
        raise ValueError("attribution needs a step that writes and a question")
    total = sum(question.score for question in questions) / len(questions)
    earned = dict.fromkeys(steps, 0.0)
    for question in questions:
        for memory in question.retrieved:
            if (step := writers.get(memory)) is not None and step in earned:
                earned[step] += question.score / (len(question.retrieved) * len(questions))
    even = (total - beta * sum(earned.values())) / len(earned)
    return {step: even + beta * share for step, share in earned.items()}
