"""Runs that are not finished: found by their folder, and what each of them began with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recollect.errors import ConfigurationError, Conflict, NotFound
from recollect.log_cursor import taken_by
from recollect.registry import Registry
from recollect.run_records import FORGOTTEN
from recollect.settings import Settings
from recollect.settings_read import parse
from recollect.yaml_text import NotYaml, read_yaml
from trainer.config import TrainConfig
from trainer.inputs import LogInput, Parent, read_again
from trainer.run_folder import ABANDONED, RunFolder

LAST = "last"
KEPT = ("agents", "embedder", "memory")
"""Sections of the settings that a run's tasks and rollouts depend on."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that died, as it began: `train(run.config, settings, engine, pool=run.pool, resume=run)` goes on with it."""

    folder: RunFolder
    config: TrainConfig
    pool: str
    parent: Parent
    log: LogInput


def run_folders(home: Path) -> list[RunFolder]:
    """Runs that have begun, the one that began last at the end."""
    folders = [RunFolder(path) for path in (home / "runs").glob("*/") if RunFolder(path).config.is_file()]
    return sorted(folders, key=lambda one: one.config.stat().st_mtime_ns)


def unfinished_ids(home: Path) -> list[str]:
    """Runs that can be resumed, the one that began last at the end."""
    return [one.id for one in run_folders(home) if not why_not(home, one)]


def unfinished(home: Path, run_id: str, settings: Settings, *, api_key: str = "") -> Unfinished:
    """The run of that id, or the last one that is not finished. `api_key` is the judge's, which no folder keeps.

    Raises NotFound, Conflict for one that cannot go on, ConfigurationError if settings are not those that it began with,
    AdapterRefused if its parent is retired.
    """
    folder = found(home, (unfinished_ids(home) or [LAST])[-1] if run_id == LAST else run_id)
    if why := why_not(home, folder):
        raise Conflict(f"run {folder.id} cannot go on: {why}", param="resume")
    saved = saved_config(folder)
    _check_same(saved["settings"], settings, folder.id)
    config = configuration(saved, api_key=api_key)
    alias, registry = config.policy or settings.agents.policy, Registry(home / "adapters")
    parent = parent_at(registry, alias, saved)
    if parent.version is not None:
        registry.verify(alias, parent.version, saved["pool"])
    taken = taken_by(home / "trajectories", folder.id)
    log = read_again(home, taken) if taken else LogInput(())
    return Unfinished(folder, config, saved["pool"], parent, log)


def found(home: Path, run_id: str) -> RunFolder:
    """The folder of a run. Raises NotFound."""
    folder = RunFolder(home / "runs" / run_id)
    if not run_id.isalnum() or not folder.config.is_file():
        known = ", ".join(unfinished_ids(home)) or "none"
        raise NotFound(f"no run {run_id!r} under {home / 'runs'}; runs that can go on: {known}", param="run")
    return folder


def saved_config(folder: RunFolder) -> dict[str, Any]:
    """`config.yaml` of a run. Raises ConfigurationError, OSError."""
    try:
        return read_yaml(folder.config)
    except NotYaml as exc:
        raise ConfigurationError(f"{folder.config} {exc}; put back what the run wrote", param="run") from exc


def configuration(saved: Mapping[str, Any], *, api_key: str = "") -> TrainConfig:
    """The training configuration of a run. Raises ConfigurationError if its keys are none any more."""
    return parse(TrainConfig, saved["train"] | {"judge": saved["train"]["judge"] | {"api_key": api_key}})


def parent_at(registry: Registry, alias: str, saved: Mapping[str, Any]) -> Parent:
    """The version that a run began with. Raises NotFound."""
    version = saved["parent"]
    folder = registry.path(alias, version, saved["pool"]) if version is not None else None
    return Parent(version, folder, saved["replaces"])


def why_not(home: Path, folder: RunFolder) -> str | None:
    """Why a run cannot go on; None if it can."""
    if folder.finished:
        return "it is finished"
    if (folder.path / ABANDONED).is_file():
        return "what it took was given back; start a new run"
    if "window" not in saved_config(folder):
        return "an earlier version of Recollect began it; start a new run"
    if (folder.path / FORGOTTEN).is_file():
        return "some of what it learned from was forgotten; what it took is new again: start a new run"
    if not saved_config(folder)["train"]["generated_only"] and taken_by(home / "trajectories", folder.id) is None:
        return "it has taken no events of the log, or gave them back; start a new run"
    return None


def _check_same(saved: Mapping[str, Any], settings: Settings, run_id: str) -> None:
    now = settings.model_dump(mode="json", exclude={"embedder": {"api_key"}, "memory": {"storage_options"}})
    pairs = {name: (saved[name], now[name]) for name in KEPT} | {"engine.model": (saved["engine"]["model"], now["engine"]["model"])}
    if changed := [name for name, (before, after) in pairs.items() if before != after]:
        raise ConfigurationError(
            f"run {run_id} began with other settings: {', '.join(changed)}; set them as in its config.yaml, or start a new run",
            param=changed[0],
        )
