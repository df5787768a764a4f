"""Why a policy answers with what it answers with, in words: what its version showed when it was published, and what was refused since."""

from __future__ import annotations

from typing import Any

from recollect.errors import AdapterRefused, NotFound
from recollect.manifest import Manifest
from recollect.memory import LOCAL_TENANT
from recollect.quarantine import quarantined
from recollect.registry import Registry

DAY = "%Y-%m-%d %H:%M"


def why(registry: Registry, policy: str, pool: str = LOCAL_TENANT) -> list[str]:
    """Sentences: of the current version, and of the last candidate that was refused after it."""
    told: list[str] = []
    current = registry.current(policy, pool)
    manifest = None
    try:
        manifest = registry.manifest(policy, current, pool) if current is not None else None
    except (AdapterRefused, NotFound) as exc:
        told.append(exc.message)
    if manifest is not None:
        told.append(f"v{manifest.version} was published {manifest.created_at:{DAY}} by run {manifest.run_id}: {shown_gain(manifest)}")
    refused = [one for one in quarantined(registry, policy, pool) if manifest is None or one.at > manifest.created_at]
    if refused:
        last = refused[-1]
        told.append(f"run {last.run_id} was refused {last.at:{DAY}}: {'; '.join(last.reasons)}")
    return told


def shown_gain(manifest: Manifest) -> str:
    """What a version showed on held-out tasks against its parent."""
    metrics: dict[str, Any] = manifest.metrics
    before, after, gain = (metrics.get(name) for name in ("held_out_before", "held_out_after", "difference"))
    if before is None or after is None or gain is None:
        return "it was not measured"
    said = f"held-out {before:.3f} to {after:.3f} ({gain:+.3f}, 95 % {metrics['difference_low']:+.3f} to {metrics['difference_high']:+.3f})"
    parent = f"v{manifest.parent}" if manifest.parent is not None else "the base model"
    return f"{said} against {parent}"
