"""Task sources: from a name and options in a suite to tasks. Generated tasks, and rows of files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError
from tokenizers import Tokenizer

from recollect.errors import ConfigurationError
from recollect.messages import user
from recollect.model import Frozen, Record
from recollect.settings import SEED_MODEL, parse
from trainer.environments.generated import dialogue_task, reading_task
from trainer.environments.tasks import Task
from trainer.seed.world import Part
from trainer.suites.suite import TaskSet


class Generated(Frozen):
    """Options of the generated sources. `num_sections` is of documents alone."""

    count: int = Field(default=128, ge=1)
    seed: str = "eval"
    part: Part = "held_out"
    num_sections: int = Field(default=3, ge=1)


class Rows(Frozen):
    """Options of `memfactory`: a JSON file of rows {context, input, answers}; `limit` 0 takes them all."""

    file: Path
    limit: int = Field(default=128, ge=0)
    gold: Literal["first", "all"] = "all"
    """MemFactory compares with the first answer of a question alone; of a list of frequent words all count."""


class Row(Record):
    """A row of MemFactory's and MemAgent's evaluation files."""

    context: str
    input: str
    answers: tuple[str, ...] = Field(min_length=1)
    index: int | None = None
    num_docs: int | None = None


class Source(NamedTuple):
    """The options' type, and what makes tasks of them."""

    options: type[Frozen]
    make: Callable[[Any], list[Task]]


def reading(options: Generated) -> list[Task]:
    """Documents of `num_sections` sections and a question about what holds at their end."""
    length = f"{options.num_sections} sections"
    return [
        _labelled(reading_task(f"{options.seed}-{i}", options.part, seed_length, num_sections=options.num_sections), {"length": length})
        for i in range(options.count)
    ]


def dialogue(options: Generated) -> list[Task]:
    """Facts told in turns, one of them perhaps changed, and a question."""
    return [dialogue_task(f"{options.seed}-{i}", options.part) for i in range(options.count)]


def memfactory(options: Rows) -> list[Task]:
    """The rows of a file as documents to read. Raises ConfigurationError for a row that is none."""
    tasks: list[Task] = []
    for number, values in enumerate(_rows(options.file)):
        if options.limit and number == options.limit:
            break
        try:
            row = Row.model_validate(values)
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigurationError(f"{options.file}, row {number}: {where}: {first['msg']}", param="options.file") from exc
        tasks.append(
            Task(
                id=f"{options.file.stem}-{number if row.index is None else row.index}",
                kind="reading",
                agent="reader",
                request=(user(row.context), user(row.input)),
                gold=row.answers[:1] if options.gold == "first" else row.answers,
                labels={"length": f"{row.num_docs} documents"} if row.num_docs else {},
                source="file",
            )
        )
    return tasks


SOURCES: dict[str, Source] = {
    "reading": Source(Generated, reading),
    "dialogue": Source(Generated, dialogue),
    "memfactory": Source(Rows, memfactory),
}


def missing_files(sets: Sequence[TaskSet], data: Path) -> list[Path]:
    """The files of the sets that are not in `data`. Raises ConfigurationError for an unknown source or option."""
    options = [_options(one, data) for one in sets]
    return [o.file for o in options if isinstance(o, Rows) and not o.file.is_file()]


def tasks_of(sets: Sequence[TaskSet], data: Path = Path(), *, limit: int | None = None, needs: Sequence[str] = ()) -> list[Task]:
    """The tasks of all sets, at most `limit` of each, labelled with their set and type. Files are looked for in `data`.

    Raises ConfigurationError that names every file that is missing, with `needs`, an unknown source or option, or an id that
    comes twice.
    """
    if missing := missing_files(sets, data):
        wants = "".join(f"\n  {need}" for need in needs)
        raise ConfigurationError(f"files are not here: {', '.join(map(str, missing))}; give the folder as data{wants}", param="data")
    found: list[Task] = []
    for one in sets:
        tasks = SOURCES[one.source].make(_options(one, data))
        found += [_labelled(task, {"set": one.name, "type": task.kind, **task.labels, **one.labels}) for task in tasks[:limit]]
    known: set[str] = set()
    for task in found:
        if task.id in known:
            raise ConfigurationError(f"task {task.id!r} comes twice; give the sets other seeds or files", param="sets")
        known.add(task.id)
    return found


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(SEED_MODEL / "tokenizer.json"))


def seed_length(text: str) -> int:
    """The seed model's tokens of a text."""
    return len(_tokenizer().encode(text).ids)


def _options(one: TaskSet, data: Path) -> Frozen:
    if one.source not in SOURCES:
        raise ConfigurationError(f"set {one.name!r}: no source {one.source!r}; known sources: {', '.join(sorted(SOURCES))}", param="source")
    values: Mapping[str, Any] = one.options
    if "file" in values:
        values = {**values, "file": data / str(values["file"])}
    try:
        return parse(SOURCES[one.source].options, dict(values))
    except ConfigurationError as exc:
        raise ConfigurationError(f"set {one.name!r}: {exc.message}", param=exc.param) from exc


def _labelled(task: Task, labels: Mapping[str, str]) -> Task:
    return task.model_copy(update={"labels": {**task.labels, **labels}})


def _rows(file: Path) -> Iterator[object]:
    """The rows of a JSON list, or of JSON lines."""
    try:
        text = file.read_text("utf-8")
        if text.lstrip().startswith("["):
            yield from json.loads(text)
        else:
            yield from (json.loads(line) for line in text.splitlines() if line.strip())
    except ValueError as exc:
        raise ConfigurationError(f"{file} is no JSON: {exc}; give a list of rows, or a row a line", param="options.file") from exc
