"""Versions that answer no more because of what they learned from: `retired.json` beside the manifest, and who is to have one."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from recollect.errors import AdapterRefused
from recollect.model import Record
from recollect.trajectory import now

if TYPE_CHECKING:
    from recollect.registry import Registry

RETIRED = "retired.json"
LEARNED = "learned from forgotten data"
UNREADABLE = "its manifest cannot be read: it may have learned from forgotten data"


class Retired(Record):
    """`retired.json`: since when, by which certificate of forgetting, and why."""

    at: datetime = Field(default_factory=now)
    certificate: str
    reason: str


def retired_in(folder: Path) -> Retired | None:
    """What retired the version in `folder`; None if nothing did. A file that cannot be read retires it too."""
    file = folder / RETIRED
    try:
        return Retired.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        return Retired(at=at, certificate="unknown", reason=f"its {RETIRED} cannot be read")


def hashes_of(trajectory_ids: AbstractSet[str]) -> frozenset[str]:
    """The ids as manifests name them."""
    return frozenset(sha256(one.encode()).hexdigest() for one in trajectory_ids)


def affected(registry: Registry, hashes: AbstractSet[str], pool: str) -> dict[str, dict[int, str]]:
    """By policy the versions that learned from these trajectories, and why: their own data held some, or an ancestor's did.

    A publication in progress is waited for. One that begins later must look for itself: see `Registry.publish`, `check`.
    """
    return {policy: found for policy in registry.known(pool) if hashes and (found := _affected(registry, policy, hashes, pool))}


def _affected(registry: Registry, policy: str, hashes: AbstractSet[str], pool: str) -> dict[int, str]:
    registry.settle(policy, pool)
    reasons: dict[int, str] = {}
    for version in registry.versions(policy, pool):  # ascending: a parent comes before what was trained from it
        try:
            manifest = registry.manifest(policy, version, pool)
        except AdapterRefused:
            reasons[version] = UNREADABLE
            continue
        above = reasons.get(manifest.parent) if manifest.parent is not None else None
        if not hashes.isdisjoint(manifest.trajectory_ids):
            reasons[version] = LEARNED
        elif above is not None:
            reasons[version] = above if above.startswith("descends") else f"descends from v{manifest.parent}"
    return reasons
