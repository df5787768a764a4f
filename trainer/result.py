"""What a training run did, for its report and for whoever started it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recollect.manifest import Manifest
from trainer.evaluate import Difference, Evaluation
from trainer.run_folder import RunFolder
from trainer.task_pool import TaskPool
from trainer.verdict import Verdict


@dataclass(frozen=True, slots=True)
class TrainResult:
    """`manifest` is None if nothing was published, and `verdict` says why. `iterations` are the lines of metrics.jsonl."""

    run: RunFolder
    policy: str
    manifest: Manifest | None
    verdict: Verdict
    before: Evaluation
    after: Evaluation
    difference: Difference | None
    tasks: TaskPool
    iterations: list[dict[str, Any]]
    seconds: float
    weights_sha256: str | None
    """Of the last candidate, published or not; None for the base model as it is."""

    @property
    def refusal(self) -> str | None:
        """Why nothing was published; None if something was."""
        return self.verdict.refusal

    @property
    def version(self) -> int | None:
        """The published version."""
        return self.manifest.version if self.manifest else None

    @property
    def canary(self) -> float | None:
        """The share of the sessions that the published version answers as a canary; None if it answers all."""
        return self.manifest.metrics.get("canary") if self.manifest else None

    @property
    def metrics(self) -> Path:
        return self.run.metrics

    @property
    def figure(self) -> Path:
        return self.run.figure


def held_out_figures(before: Evaluation, after: Evaluation, difference: Difference | None) -> dict[str, Any]:
    """The held-out figures, as manifests and reports hold them."""
    return {
        "held_out_before": before.accuracy,
        "held_out_after": after.accuracy,
        "held_out_greedy_before": before.greedy_accuracy,
        "held_out_greedy_after": after.greedy_accuracy,
        "held_out_by_kind_before": before.by_kind(),
        "held_out_by_kind_after": after.by_kind(),
        "held_out_tasks": len(before.tasks),
        "difference": difference.mean if difference else None,
        "difference_low": difference.low if difference else None,
        "difference_high": difference.high if difference else None,
    }
