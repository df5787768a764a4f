"""Candidates that the gate did not let pass, `<pool>/<policy>/quarantine/<run>/`: files as of a version, and `reason.json`.

No engine has one loaded, and nothing answers with one. Those that learned from forgotten data are deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from recollect.manifest import Manifest
from recollect.memory import LOCAL_TENANT
from recollect.model import Record
from recollect.registry import CONFIG, MANIFEST, WEIGHTS, Registry
from recollect.trajectory import now

QUARANTINE = "quarantine"
REASON = "reason.json"


class Refusal(Record):
    """`reason.json`: why a run's candidate is not published, and since when."""

    run_id: str = ""
    at: datetime = Field(default_factory=now)
    reasons: list[str]


def put_aside(
    registry: Registry,
    folder: Path,
    manifest: Manifest,
    reasons: Sequence[str],
    pool: str = LOCAL_TENANT,
    *,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Copy the candidate in `folder` into quarantine, all at once; a run that does it again changes nothing.

    Raises what `check` raises, which is called when nobody can forget.
    """
    with registry.writing(manifest.policy, pool) as home:
        check()
        place = home / QUARANTINE / manifest.run_id
        if place.is_dir():
            return place
        aside = place.with_name(f".{place.name}.tmp")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name in (WEIGHTS, CONFIG):
            shutil.copyfile(folder / name, aside / name)
        (aside / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", "utf-8")
        refusal = Refusal(run_id=manifest.run_id, reasons=list(reasons))
        (aside / REASON).write_text(refusal.model_dump_json(indent=1) + "\n", "utf-8")
        return aside.rename(place)


def quarantined(registry: Registry, policy: str, pool: str = LOCAL_TENANT) -> list[Refusal]:
    """The candidates of a policy that are in quarantine, the last one at the end. A reason that cannot be read is said to be none."""
    found: list[Refusal] = []
    for folder in _folders(registry, policy, pool):
        try:
            refusal = Refusal.model_validate_json((folder / REASON).read_bytes())
        except (FileNotFoundError, ValidationError):
            refusal = Refusal(at=datetime.fromtimestamp(folder.stat().st_mtime, UTC), reasons=[f"its {REASON} cannot be read"])
        found.append(refusal.model_copy(update={"run_id": folder.name}))
    return sorted(found, key=lambda one: one.at)


def drop_quarantined(registry: Registry, hashes: AbstractSet[str], affected: Mapping[str, Mapping[int, str]], pool: str) -> list[str]:
    """Delete the candidates that learned from these trajectories, or from a version that did; their names."""
    dropped: list[str] = []
    if not hashes:
        return dropped
    for policy in registry.known(pool):
        with registry.writing(policy, pool) as home:
            for leftover in (home / QUARANTINE).glob(".*.tmp"):  # of a process that was killed while it put one aside
                shutil.rmtree(leftover)
        for folder in _folders(registry, policy, pool):
            if _learned(folder, hashes, affected.get(policy, {})):
                shutil.rmtree(folder)
                dropped.append(f"{policy}@run{folder.name}")
    return dropped


def _folders(registry: Registry, policy: str, pool: str) -> list[Path]:
    return sorted(path for path in (registry.root / pool / policy / QUARANTINE).glob("*/") if not path.name.startswith("."))


def _learned(folder: Path, hashes: AbstractSet[str], versions: Mapping[int, str]) -> bool:
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, ValidationError):  # what it learned from cannot be read: it may have been this
        return True
    return manifest.parent in versions or not hashes.isdisjoint(manifest.trajectory_ids)
