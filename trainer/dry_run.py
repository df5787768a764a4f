"""`recollect train --dry-run`: what a run would do, and what it needs that is not here."""

from __future__ import annotations

from typing import Any

from recollect.errors import ConfigurationError
from recollect.settings import Settings
from trainer.config import TrainConfig
from trainer.suites.sources import missing_files


def missing(config: TrainConfig, settings: Settings) -> list[str]:
    """What the run needs and does not find, in words: weights, sources, files. Empty if it can begin."""
    found: list[str] = []
    if config.needs.weights and not settings.engine.model:
        found.append(f"weights: set engine.model to {' or '.join(config.needs.weights)}, or to a folder that holds it")
    return [*found, *(f"file: {file}" for file in missing_files(config.tasks, config.data))]


def check_needs(config: TrainConfig, settings: Settings) -> None:
    """Raises ConfigurationError that names everything that is missing."""
    if absent := missing(config, settings):
        said = "\n  ".join([*absent, *(f"data: {text}" for text in config.needs.data)])
        raise ConfigurationError(f"this configuration needs what is not here:\n  {said}", param="needs")


def dry_run(config: TrainConfig, settings: Settings) -> dict[str, Any]:
    """The run in figures, what it needs, what of that is missing, and which settings are not as it means them."""
    needs = config.needs
    rollouts = config.tasks_per_iteration * config.group_size
    return {
        "follows": needs.follows,
        "iterations": config.iterations,
        "rollouts_per_iteration": rollouts,
        "rollouts": rollouts * config.iterations,
        "tasks": [one.name for one in config.tasks] or ["generated" if config.generated_only else "log"],
        "weights": list(needs.weights),
        "data": list(needs.data),
        "missing": missing(config, settings),
        "settings": [f"{key}={value}" for key, value in needs.settings.items() if _current(settings, key) != value],
        "figures": needs.figures,
        "differences": list(needs.differences),
    }


def _current(settings: Settings, key: str) -> str:
    """The value of `section.key`, as text. Raises ConfigurationError for a setting that there is not."""
    value: Any = settings
    for part in key.split("."):
        if not hasattr(value, part):
            raise ConfigurationError(f"needs.settings: unknown setting {key!r}", param="needs.settings")
        value = getattr(value, part)
    return str(value)
