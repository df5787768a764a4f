"""Which versions of the adapters learned from which trajectories, by the ids in their manifests."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from hashlib import sha256

from recollect.errors import AdapterRefused
from recollect.registry import Registry

LEARNED = "learned from forgotten data"
UNREADABLE = "its manifest cannot be read: it may have learned from forgotten data"


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
