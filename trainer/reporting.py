"""Iterations' figures for TensorBoard, trackio or Weights & Biases, by transformers' own integrations.

Each is a package that the user installs. What is told are numbers: no text of a user leaves the run's folder by this way.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import Any

from transformers.integrations.integration_utils import TensorBoardCallback, get_reporting_integration_callbacks
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from recollect.errors import ConfigurationError
from trainer.progress import Listener, Progress
from trainer.run_folder import RunFolder

logger = logging.getLogger(__name__)
PROJECT = "recollect"


def reporters(names: Sequence[str]) -> list[TrainerCallback]:
    """The integrations of these names. Raises ConfigurationError for one whose package is missing."""
    found: list[TrainerCallback] = []
    for name, kind in zip(names, get_reporting_integration_callbacks(list(names)), strict=True):
        try:
            found.append(kind())
        except (RuntimeError, ImportError) as exc:
            raise ConfigurationError(f"report_to {name}: its package is missing; pip install {name}", param="report_to") from exc
    return found


@asynccontextmanager
async def reporting(
    found: Sequence[TrainerCallback], folder: RunFolder, arguments: TrainingArguments, listen: Listener
) -> AsyncGenerator[Listener]:
    """A listener that hands every iteration's numbers on to the integrations, and everything to `listen`. `arguments` are the learner's."""
    if not found:
        yield listen
        return
    arguments = copy(arguments)
    arguments.run_name, arguments.project, arguments.trackio_space_id = folder.id, PROJECT, None
    os.environ.setdefault("WANDB_PROJECT", PROJECT)
    state, control = TrainerState(), TrainerControl()
    heard = list(found)

    def tell(event: str, **more: Any) -> None:
        for one in list(heard):
            try:
                getattr(one, event)(arguments, state, control, **more)
            except Exception as exc:  # noqa: BLE001 - the boundary to other people's services: none of them ends a run
                heard.remove(one)
                logger.warning("%s is told nothing more: %s: %s", type(one).__name__, type(exc).__name__, exc)

    def told(progress: Progress) -> None:
        listen(progress)
        state.global_step = progress.done
        if numbers := {name: float(value) for name, value in progress.metrics.items() if _is_number(value)}:
            tell("on_log", logs=numbers, model=None)

    for one in found:
        if isinstance(one, TensorBoardCallback):
            one.logging_dir = str(folder.path / "tensorboard")
    tell("on_train_begin", model=None)
    try:
        yield told
    finally:
        tell("on_train_end")
        if (wandb := sys.modules.get("wandb")) is not None:
            wandb.finish()  # transformers leaves it open, and the next run of this process would go on with it


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
