"""A home with one published version of `memory`, whose weights a scripted engine does not look at."""

from __future__ import annotations

from pathlib import Path

from recollect.manifest import Fingerprint, Manifest
from recollect.registry import CONFIG, WEIGHTS, Registry, file_sha256


def publish(home: Path) -> Registry:
    """Publish version 1 and make it current."""
    made = home / "made"
    made.mkdir(parents=True)
    (made / WEIGHTS).write_bytes(b"weights")
    (made / CONFIG).write_text("{}")
    facts = {"policy": "memory", "version": 1, "parent": None, "base": "scripted", "run_id": "r1", "rank": 8, "alpha": 16}
    manifest = {**facts, "target_modules": ["q_proj"], "fingerprint": Fingerprint(probes=[]), "sha256": file_sha256(made / WEIGHTS)}
    registry = Registry(home / "adapters")
    registry.publish(made, Manifest.model_validate(manifest))
    return registry
