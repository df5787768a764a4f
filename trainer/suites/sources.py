"""The tasks of a suite's sets: from named sources (trainer/environments/sources.py), labelled, with files looked for in one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from recollect.errors import ConfigurationError, RecollectError
from trainer.environments.sources import SOURCES, load_tasks
from trainer.environments.tasks import Task
from trainer.suites.suite import TaskSet


def missing_files(sets: Sequence[TaskSet], data: Path) -> list[Path]:
    """The files that the sets name and that are not in `data`."""
    found = [path for one in sets for path in _files(one, data).values()]
    return [path for path in dict.fromkeys(found) if not path.exists()]


def tasks_of(sets: Sequence[TaskSet], data: Path = Path(), *, limit: int | None = None, needs: Sequence[str] = ()) -> list[Task]:
    """The tasks of all sets, at most `limit` of each, labelled with their set and type. Files are looked for in `data`.

    Raises ConfigurationError that names every file that is missing, with `needs`, the set whose source or option is unknown, or
    an id that comes twice; InvalidRequest for a bad file.
    """
    if missing := missing_files(sets, data):
        wants = "".join(f"\n  {need}" for need in needs)
        raise ConfigurationError(f"files are not here: {', '.join(map(str, missing))}; give the folder as data{wants}", param="data")
    found: list[Task] = []
    for one in sets:
        found += [_of(one, task) for task in _loaded(one, data)[:limit]]
    known: set[str] = set()
    for task in found:
        if task.id in known:
            raise ConfigurationError(f"task {task.id!r} comes twice; give the sets other seeds or files", param="sets")
        known.add(task.id)
    return found


def _loaded(one: TaskSet, data: Path) -> list[Task]:
    try:
        return load_tasks(one.source, {**one.options, **_files(one, data)})
    except RecollectError as exc:
        exc.message = f"set {one.name!r}: {exc.message}"
        exc.args = (exc.message,)
        raise


def _of(one: TaskSet, task: Task) -> Task:
    labels: Mapping[str, str] = {"set": one.name, "type": task.kind, **task.labels, **one.labels}
    return task.model_copy(update={"labels": dict(labels), "gold": task.gold[:1] if one.gold == "first" else task.gold})


def _files(one: TaskSet, data: Path) -> dict[str, Path]:
    """The options of a set that are paths, in `data`, or `data` itself where that is a file.

    None for a source that there is not: loading it says so.
    """
    if one.source not in SOURCES:
        return {}
    fields: Mapping[str, Any] = SOURCES[one.source].options.model_fields
    paths = [name for name, field in fields.items() if field.annotation is Path or Path in get_args(field.annotation)]
    wanted = {name: data / str(one.options[name]) for name in paths if one.options.get(name) is not None}
    return dict.fromkeys(wanted, data) if data.is_file() else wanted
