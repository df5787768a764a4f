"""Forgetting in the folders of training runs: recorded rollouts of tasks that were made of what is forgotten are blanked.

`tasks.json` of a run names, for each task, the hashes of the trajectories that it was made of; a rollout names its task as its session.
"""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Any

from recollect.errors import NotFound
from recollect.log_cursor import give_back
from recollect.log_read import placed_events
from recollect.log_redact import redact

FORGOTTEN = "forgotten.json"
"""In the folder of a run that learned from something forgotten: if it is not finished, it cannot go on."""
PARTS = ("logged", "generated", "held_out", "answerable")
"""Of `tasks.json`: the lists of tasks."""
TASKS, ROLLOUTS, REPORT, CHECKPOINTS = "tasks.json", "rollouts", "report.json", "checkpoint-*.pt"


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
            _mark(run, tasks)
        elif not forget_in_run(home, run, hashes):
            continue
        changed.append(run.name)
    return changed


def forget_in_run(home: Path, run: Path, hashes: AbstractSet[str]) -> bool:
    """Blank the rollouts of a run that nobody writes; True if there were some.

    Of one that did not come to its end what it learned goes too, and what it took of the log is new again.

    Raises Conflict if it is still being written, CorruptLog: what cannot be read cannot be said to hold nothing.
    """
    tasks, root = _made_of(run, hashes), run / ROLLOUTS
    recorded = {
        one.event.trajectory_id
        for one in placed_events(root, lambda _: None)
        if one.event.kind == "trajectory" and one.event.body["session"] in tasks
    }
    if not recorded:
        return False
    _mark(run, tasks)
    if not (run / REPORT).is_file():
        for file in run.glob(CHECKPOINTS):
            file.unlink()
        with suppress(NotFound):
            give_back(home / "trajectories", run.name)
    return redact(root, recorded) > 0


def _made_of(run: Path, hashes: AbstractSet[str]) -> set[str]:
    """Ids of a run's tasks that were made of these trajectories."""
    file = run / TASKS
    parts: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    tasks: list[dict[str, Any]] = [task for name in PARTS for task in parts.get(name, ())]
    return {task["id"] for task in tasks if not hashes.isdisjoint(task["trajectories"])}


def _mark(run: Path, tasks: AbstractSet[str]) -> None:
    (run / FORGOTTEN).write_text(json.dumps({"tasks": sorted(tasks)}) + "\n", "utf-8")
