"""From a trained adapter to a folder that engines load, and to the manifest under which the registry publishes it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import safe_open

from recollect.errors import AdapterRefused
from recollect.events import LoggedTrajectory
from recollect.manifest import Fingerprint, Manifest
from recollect.registry import CONFIG, WEIGHTS, file_sha256
from server.engines.fingerprint import difference
from trainer.environments.tasks import Task
from trainer.trl_bridge import Learner


def save_candidate(learner: Learner, folder: Path) -> Path:
    """Write the adapter to `folder`, which must not exist, all at once. Raises AdapterRefused for weights that are not finite."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    learner.save(aside)
    for name in os.listdir(aside):
        if name not in (WEIGHTS, CONFIG):
            (aside / name).unlink()
    _check_finite(aside / WEIGHTS)
    aside.rename(folder)
    return folder


def unchanged(candidate: Fingerprint, parent: Fingerprint) -> str | None:
    """Why a candidate that answers as its parent does is not published; None if it answers otherwise."""
    if difference(parent, candidate) is None:
        return "unchanged: it answers all fingerprint prompts as its parent does; train longer or on more tasks"
    return None


def manifest_of(
    folder: Path,
    *,
    policy: str,
    version: int,
    parent: int | None,
    base: str,
    base_path: Path,
    run_id: str,
    logged: Sequence[LoggedTrajectory],
    tasks: Sequence[Task],
    configuration: dict[str, Any],
    metrics: dict[str, Any],
    fingerprint: Fingerprint,
    batches: Sequence[str] = (),
) -> Manifest:
    """The manifest of the adapter in `folder`. `tasks` are those it was trained on, `logged` what the log held."""
    used = {identity for task in tasks for identity in task.trajectory_ids}
    times = sorted(item.trajectory.created_at for item in logged if item.trajectory.id in used)
    weights = base_path / "model.safetensors"
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    return Manifest(
        policy=policy,
        version=version,
        parent=parent,
        base=base,
        base_sha256=file_sha256(weights) if weights.is_file() else None,
        run_id=run_id,
        rank=config["r"],
        alpha=config["lora_alpha"],
        target_modules=sorted(config["target_modules"]),
        data_window=(times[0], times[-1]) if times else None,
        trajectory_ids=sorted(sha256(identity.encode()).hexdigest() for identity in used),
        num_logged_tasks=sum(task.source == "logged" for task in tasks),
        num_generated_tasks=sum(task.source == "generated" for task in tasks),
        configuration=configuration,
        metrics=metrics,
        fingerprint=fingerprint,
        batches=list(batches),
        sha256=file_sha256(folder / WEIGHTS),
    )


def _check_finite(weights: Path) -> None:
    with safe_open(weights, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - no mapping, it has only keys()
            if not bool(tensors.get_tensor(name).isfinite().all()):
                raise AdapterRefused(f"{name} holds values that are not finite; lower optimisation.learning_rate")
