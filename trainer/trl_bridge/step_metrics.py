"""What an update did, in figures: TRL's own, and the ratios of current to sampling probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from accelerate.utils import gather_object

from trainer.samples import Sample
from trainer.trl_bridge.recorded_trainer import RecordedTrainer


def step_metrics(trainer: RecordedTrainer, samples: Sequence[Sample], seconds: float) -> dict[str, float]:
    """What the step did: TRL's own figures, and the ratios of current to sampling probabilities."""
    logged = next((row for row in reversed(trainer.state.log_history) if "grad_norm" in row), {})
    ratios, drift = _of_all(trainer, torch.cat(trainer.ratios)), _of_all(trainer, torch.cat(trainer.drift))
    cap = trainer.cap
    metrics = {
        "loss": float(logged.get("loss", math.nan)),
        "grad_norm": float(logged.get("grad_norm", math.nan)),
        "learning_rate": float(logged.get("learning_rate", math.nan)),
        "entropy": float(logged.get("entropy", math.nan)),
        "clip_low": float(logged.get("clip_ratio/low_mean", 0.0)),
        "clip_high": float(logged.get("clip_ratio/high_mean", logged.get("cispo_clip_ratio", 0.0))),
        "kl_sampler": float((ratios - 1 - drift).mean()),
        "importance_mean": float(ratios.mean()),
        "importance_max": float(ratios.max()),
        "importance_truncated": float((ratios > cap).float().mean()) if cap is not None else 0.0,
        "logprob_difference_mean": float(drift.abs().mean()),
        "logprob_difference_max": float(drift.abs().max()),
        "samples": float(sum(s.count for s in samples)),
        "rows": float(len(samples)),
        "tokens": float(sum(s.tokens for s in samples)),
        "update_s": seconds,
    }
    if "kl" in logged:
        metrics["kl_reference"] = float(logged["kl"])
    if not math.isfinite(metrics["loss"]) or not math.isfinite(metrics["grad_norm"]):
        raise FloatingPointError(
            f"the update diverged: loss {metrics['loss']}, gradient norm {metrics['grad_norm']}; lower the learning rate"
        )
    return metrics


def _of_all(trainer: RecordedTrainer, values: torch.Tensor) -> torch.Tensor:
    """The values (n,) of all processes."""
    return torch.cat(gather_object([values.cpu()])) if trainer.accelerator.num_processes > 1 else values
