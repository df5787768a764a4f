"""Forgetting in the folders of training runs: recorded rollouts of tasks that were made of what is forgotten are blanked.

`tasks.json` of a run names, for each task, the hashes of the trajectories that it was made of; a rollout names its task as its session.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple

from recollect.log_cursor import give_back, taken_by
from recollect.log_files import replacing
from recollect.log_read import placed_events, refuse
from recollect.log_redact import redact
from recollect.registry import Registry

FORGOTTEN = "forgotten.json"
"""In the folder of a run that learned from something forgotten: if it is not finished, it cannot go on."""
PARTS = ("logged", "generated", "held_out", "answerable")
"""Of `tasks.json`: the lists of tasks."""
TASKS, ROLLOUTS, REPORT, REPLAYED = "tasks.json", "rollouts", "report.json", "replayed"


class _Marked(NamedTuple):
    """The tasks of a run that were made of something forgotten, and those of them whose rollouts are blanked."""

    tasks: frozenset[str]
    blanked: frozenset[str]


def forget_in_runs(home: Path, hashes: AbstractSet[str], *, training: bool) -> list[str]:
    """Blank what runs recorded of tasks that were made of these trajectories (hashes of their ids); the ids of the runs that changed.

    `training`: whether a trainer runs. Its run is marked alone, and blanks its rollouts itself when it ends. Idempotent.
    """
    changed: list[str] = []
    for run in sorted((home / "runs").glob("*/")) if hashes else ():
        tasks = _made_of(run, hashes)
        if not tasks:
            continue
        if training and not (run / REPORT).is_file():
            if tasks <= _marked(run).tasks:
                continue
            _mark(run, tasks)
        elif not forget_in_run(home, run, hashes):
            continue
        changed.append(run.name)
    return changed


def forget_in_run(home: Path, run: Path, hashes: AbstractSet[str]) -> bool:
    """Blank the rollouts of a run that nobody writes; True if some were not blank.

    Weights of a replay go too. Of a run that did not come to its end goes what it learned, and what it took of the log is new again,
    unless it has published. Raises Conflict if it is still being written, CorruptLog: what cannot be read cannot be said to hold nothing.
    """
    tasks, root = _made_of(run, hashes), run / ROLLOUTS
    if tasks <= _marked(run).blanked:  # nobody rolls these out again: such a run cannot go on
        return False
    _mark(run, tasks)
    recorded = {
        one.event.trajectory_id
        for one in placed_events(root, refuse)
        if one.event.kind == "trajectory" and one.event.body["session"] in tasks
    }
    blanked = redact(root, recorded)
    shutil.rmtree(run / REPLAYED, ignore_errors=True)
    if not (run / REPORT).is_file():
        drop_checkpoints(run)
        _give_back(home, run.name)
    _mark(run, tasks, blanked=tasks)
    return blanked > 0


def drop_checkpoints(run: Path) -> None:
    """Delete what only an unfinished run needs, and what a killed one had half written of it."""
    for file in (*run.glob("checkpoint-*.pt"), *run.glob(".checkpoint-*")):
        file.unlink()


def _give_back(home: Path, run_id: str) -> None:
    taken = taken_by(home / "trajectories", run_id)
    if taken is None or taken.finished or Registry(home / "adapters").of_run(taken.policy, run_id, taken.pool) is not None:
        return
    give_back(home / "trajectories", run_id)


def _made_of(run: Path, hashes: AbstractSet[str]) -> set[str]:
    """Ids of a run's tasks that were made of these trajectories."""
    file = run / TASKS
    parts: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    tasks: list[dict[str, Any]] = [task for name in PARTS for task in parts.get(name, ())]
    return {task["id"] for task in tasks if not hashes.isdisjoint(task["trajectories"])}


def _marked(run: Path) -> _Marked:
    file = run / FORGOTTEN
    said: dict[str, list[str]] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return _Marked(frozenset(said.get("tasks", ())), frozenset(said.get("blanked", ())))


def _mark(run: Path, tasks: AbstractSet[str], *, blanked: AbstractSet[str] = frozenset()) -> None:
    before = _marked(run)
    with replacing(run / FORGOTTEN) as file:
        file.write(json.dumps({"tasks": sorted(before.tasks | tasks), "blanked": sorted(before.blanked | blanked)}).encode())
