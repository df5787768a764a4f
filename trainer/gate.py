"""The gate: whether a candidate is published, and if not, every reason why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.environments.tasks import Task
from trainer.evaluate import Difference, Evaluation, paired_difference
from trainer.gate_settings import GateSettings

OWN_LEVEL = 0.9
FAILING_MARGIN = 0.01
"""How much larger a share of the held-out answers may fail than of the parent's."""


@dataclass(frozen=True, slots=True)
class Checks:
    """What was found of a candidate beside its answers. None: could not be looked at, which `said` explains."""

    norm: float | None = None
    """The largest change of a weight matrix, as a ratio of Frobenius norms."""
    divergence: float | None = None
    """From the parent, in nats a token."""
    canaries: int = 0
    canaries_failed_before: int = 0
    canaries_failed_after: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Without `reasons` the candidate passes. `said` are remarks that decide nothing; `figures` stand in the report."""

    reasons: tuple[str, ...]
    said: tuple[str, ...]
    figures: dict[str, Any] = field(default_factory=dict[str, Any])


def decide(
    settings: GateSettings, tasks: Sequence[Task], before: Evaluation, after: Evaluation, checks: Checks, *, seed: int = 0
) -> Decision:
    """Judge a candidate by its answers to the held-out tasks (`tasks`, in the order of both evaluations), and by the checks.

    All tasks pooled: the whole 95 % interval of the paired difference must lie above 0. Own tasks (of the log): the lower end of
    the 90 % interval must lie above minus `own_margin`, where there are enough of them to tell.
    """
    own = [place for place, task in enumerate(tasks) if task.source == "logged"]
    pooled = paired_difference(before.sampled, after.sampled, seed=seed)
    apart = paired_difference(_at(before, own), _at(after, own), seed=seed, level=OWN_LEVEL)
    num_own = apart.num_pairs if apart else 0
    reasons = [*_pooled(pooled), *_failing(before, after), *_checked(settings, checks)]
    said = [f"its {name} could not be measured" for name in ("norm", "divergence") if getattr(checks, name) is None]
    if apart is None or num_own < settings.min_own_tasks:
        said.append(f"{num_own} own held-out tasks are too few to be judged by themselves ({settings.min_own_tasks} are needed)")
    elif apart.low < -settings.own_margin:
        reasons.append(
            f"own held-out tasks may be worse by more than {settings.own_margin:g}: {_interval(apart, OWN_LEVEL)} over {num_own} tasks"
        )
    figures = {
        "passed": not reasons,
        "reasons": reasons,
        "said": said,
        "tasks": pooled.num_pairs if pooled else 0,
        "own_tasks": num_own,
        "own_difference": apart.mean if apart else None,
        "own_low": apart.low if apart else None,
        "own_high": apart.high if apart else None,
        "norm": checks.norm,
        "divergence": checks.divergence,
        "canaries": checks.canaries,
        "canaries_failed_before": checks.canaries_failed_before,
        "canaries_failed_after": checks.canaries_failed_after,
    }
    return Decision(tuple(reasons), tuple(said), figures)


def _pooled(pooled: Difference | None) -> list[str]:
    if pooled is None:
        return ["no held-out task was scored both before and after"]
    return [] if pooled.low > 0 else [f"not better for certain: {_interval(pooled, 0.95)} over {pooled.num_pairs} held-out tasks"]


def _failing(before: Evaluation, after: Evaluation) -> list[str]:
    """What fails is not scored: a candidate that broke on hard tasks would look better without them."""
    answers = len(after.tasks) * (after.samples_per_task + 1)
    if after.num_errors - before.num_errors <= FAILING_MARGIN * answers:
        return []
    return [f"{after.num_errors} of {answers} held-out answers failed, of its parent's {before.num_errors}"]


def _checked(settings: GateSettings, checks: Checks) -> list[str]:
    reasons: list[str] = []
    # Written so that what is no number is refused too
    if checks.norm is not None and not checks.norm <= settings.max_norm:
        reasons.append(f"the adapter changes a weight matrix by {checks.norm:.2f} of its norm, gate.max_norm is {settings.max_norm:g}")
    if checks.divergence is not None and not checks.divergence <= settings.max_divergence:
        said = f"it diverges from its parent by {checks.divergence:.2f} nats a token"
        reasons.append(f"{said}, gate.max_divergence is {settings.max_divergence:g}")
    worse = checks.canaries_failed_after - checks.canaries_failed_before
    if checks.canaries and worse > settings.canary_margin * checks.canaries:
        reasons.append(
            f"it fails {checks.canaries_failed_after} of {checks.canaries} canary prompts, its parent {checks.canaries_failed_before}: "
            "it may have been poisoned"
        )
    return reasons


def _at(evaluation: Evaluation, places: Sequence[int]) -> list[float | None]:
    return [evaluation.sampled[place] for place in places]


def _interval(difference: Difference, level: float) -> str:
    return f"{difference.mean:+.3f} ({level:.0%}: {difference.low:+.3f} to {difference.high:+.3f})"
