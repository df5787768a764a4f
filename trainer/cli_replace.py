"""`recollect memory forget --retrain`: for each policy that lost its version, train what replaces it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import typer

from recollect.errors import ConfigurationError, RecollectError
from recollect.registry import Registry
from recollect.settings import Settings
from trainer.cli import trained
from trainer.inputs import NothingToDo
from trainer.replacement import configuration_of


def check_trainer() -> None:
    """Raises ConfigurationError if this environment cannot train: to be called before anything is forgotten."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("trl") is None:
        raise ConfigurationError(
            "--retrain needs the trainer's packages, which are not installed here; leave it out, "
            "and run `recollect train --replace POLICY@vN` where they are",
            param="retrain",
        )


def retrained(settings: Settings, lost: Mapping[str, str]) -> list[dict[str, Any]]:
    """Train a replacement of each version of `lost`, such as {"memory": "v2"}. One that fails does not keep the others from it.

    Each outcome names what it `replaces`, the `version` that was published (None: none was), what is to be `said`, and whether it `failed`.
    """
    return [_outcome(settings, policy, int(name.removeprefix("v"))) for policy, name in sorted(lost.items())]


def _outcome(settings: Settings, policy: str, version: int) -> dict[str, Any]:
    name = f"{policy}@v{version}"
    typer.echo(f"training what replaces {name}", err=True)
    published, failed = None, False
    try:
        result = trained(configuration_of(Registry(settings.home / "adapters"), policy, version), settings, replaces=version)
        published = f"{policy}@v{result.version}" if result.version else None
        said = f"{published} replaces {name}" if published else f"nothing replaces {name}: {result.refusal}"
    except NothingToDo as exc:
        said = f"nothing replaces {name}: {exc.message}"
    except (RecollectError, FloatingPointError, OSError) as exc:
        said, failed = f"{name} was not replaced: {exc}; again: recollect train --replace {name}", True
    return {"replaces": name, "version": published, "said": said, "failed": failed}
