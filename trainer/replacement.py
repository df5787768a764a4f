"""What replaces a version that was retired because of what it learned: the same configuration, on the log as it is now."""

from __future__ import annotations

from pathlib import Path

from recollect.errors import AdapterRefused, InvalidRequest
from recollect.learned import hashes_of
from recollect.log_redact import redacted_ids
from recollect.manifest import Manifest
from recollect.memory import LOCAL_TENANT
from recollect.registry import Registry
from recollect.settings_read import parse
from trainer.config import TrainConfig


def configuration_of(registry: Registry, policy: str, version: int, pool: str = LOCAL_TENANT) -> TrainConfig:
    """The configuration that a retired version was trained with, to learn from the whole log: what it learned from was not new then.

    Raises NotFound, InvalidRequest for a version that is not retired, ConfigurationError if its manifest's keys are none any more.
    """
    if registry.retired(policy, version, pool) is None:
        raise InvalidRequest(
            f"{policy}@v{version} is not retired, there is nothing to replace; leave --replace out to go on from the current version",
            param="replace",
        )
    said = registry.manifest(policy, version, pool).configuration
    values = {name: value for name, value in said.items() if name in TrainConfig.model_fields}  # others were computed, such as `frozen`
    return parse(TrainConfig, values | {"policy": policy, "from_log": values.get("from_log", {}) | {"since": "all"}})


def check_remembered(log: Path, manifest: Manifest) -> None:
    """Raises AdapterRefused if some of what a candidate learned from was forgotten while it learned."""
    if not hashes_of(redacted_ids(log)).isdisjoint(manifest.trajectory_ids):
        raise AdapterRefused(
            "some of what the candidate learned from was forgotten during the run, it is not published; train again",
            code="adapter_forgotten",
        )
