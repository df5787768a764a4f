"""Candidates that were never published, `<pool>/<policy>/quarantine/<run>/`: those that learned from forgotten data are deleted."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from pydantic import ValidationError

from recollect.manifest import Manifest
from recollect.registry import MANIFEST, Registry

QUARANTINE = "quarantine"


def drop_quarantined(registry: Registry, hashes: AbstractSet[str], affected: Mapping[str, Mapping[int, str]], pool: str) -> list[str]:
    """Delete the candidates that learned from these trajectories, or from a version that did; their names. No engine has one loaded."""
    dropped: list[str] = []
    if not hashes:
        return dropped
    for policy in registry.known(pool):
        for folder in sorted((registry.root / pool / policy / QUARANTINE).glob("*/")):
            if _learned(folder, hashes, affected.get(policy, {})):
                shutil.rmtree(folder)
                dropped.append(f"{policy}@run{folder.name}")
    return dropped


def _learned(folder: Path, hashes: AbstractSet[str], versions: Mapping[int, str]) -> bool:
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, ValidationError):  # what it learned from cannot be read: it may have been this
        return True
    return manifest.parent in versions or not hashes.isdisjoint(manifest.trajectory_ids)
