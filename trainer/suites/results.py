"""The folder of an evaluation: its configuration, and `results.jsonl`, one line a run, appended as runs end.

A line may be superseded by a later one of the same contender, task and repeat: a run that failed is made again when the
evaluation goes on.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from recollect.errors import Conflict, NotFound
from recollect.model import Record
from trainer.suites.contender import Contender

CONFIG, RESULTS, TOLD, LOCK = "config.json", "results.jsonl", "told.jsonl", "lock"


class Key(NamedTuple):
    """Which run it is."""

    contender: Contender
    task: str
    repeat: int


class Result(Record):
    """One run. `scores` by column, None for what was not scored; `error` if it failed. Tokens and calls are those of the question:
    what telling its conversation took is `Conversation`'s."""

    agent: str
    policy: str
    task: str
    repeat: int
    labels: dict[str, str] = Field(default_factory=dict)
    scores: dict[str, float | None]
    error: str | None = None
    answer: str = ""
    calls: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """From the question to the end of the answer, while other runs were going on."""

    @property
    def contender(self) -> Contender:
        return Contender(self.agent, self.policy)

    @property
    def key(self) -> Key:
        return Key(self.contender, self.task, self.repeat)

    @property
    def tokens(self) -> int:
        """Read and written."""
        return self.prompt_tokens + self.completion_tokens


class Conversation(Record):
    """A conversation as a contender was told it, for all questions that were asked of it."""

    agent: str
    policy: str
    conversation: str
    """sha256 of what was said."""
    repeat: int
    turns: int
    memories: int
    """That were current after it."""
    operations: dict[str, int]
    """Memory operations by kind; those that were not applied or not well-formed by themselves."""
    calls: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    error: str | None = None

    @property
    def contender(self) -> Contender:
        return Contender(self.agent, self.policy)


class ResultFolder:
    """An evaluation on disk. Only one process writes into it at a time (`writing`)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def existing(cls, path: Path) -> ResultFolder:
        """A folder that an evaluation was written into. Raises NotFound."""
        if not (path / CONFIG).is_file():
            raise NotFound(f"{path} holds no evaluation (it has no {CONFIG}); give a folder of recollect eval SUITE --out", param="out")
        return cls(path)

    @property
    def config(self) -> dict[str, Any]:
        """What it was begun with."""
        return json.loads((self.path / CONFIG).read_text("utf-8"))

    @contextmanager
    def writing(self, config: Mapping[str, Any]) -> Generator[None]:
        """Begin the evaluation, or go on with it. Raises Conflict if it was begun with another configuration, or runs elsewhere."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise Conflict(f"an evaluation writes into {self.path} already; wait for it, or give another --out", param="out") from exc
            self._begin(json.loads(json.dumps(config)))
            yield
        finally:
            os.close(descriptor)

    def results(self) -> list[Result]:
        """The latest of each run, in the order in which they were first made. A last line that was cut off is left out."""
        try:
            lines = (self.path / RESULTS).read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        found: dict[Key, Result] = {}
        for number, line in enumerate(lines, start=1):
            try:
                result = Result.model_validate_json(line)
            except ValidationError as exc:
                if number == len(lines):
                    break
                raise Conflict(f"{self.path / RESULTS}, line {number}, is no result; remove the line to have it run again") from exc
            found[result.key] = result
        return list(found.values())

    def append(self, result: Result) -> None:
        """Add a line, which is in the file when this returns."""
        with (self.path / RESULTS).open("a", encoding="utf-8") as file:
            file.write(result.model_dump_json() + "\n")

    def note(self, told: Conversation) -> None:
        """Add the figures of a conversation that was told."""
        with (self.path / TOLD).open("a", encoding="utf-8") as file:
            file.write(told.model_dump_json() + "\n")

    def told(self) -> list[Conversation]:
        """The conversations that were told, the latest telling of each. A last line that was cut off is left out."""
        try:
            lines = (self.path / TOLD).read_text("utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        found = [Conversation.model_validate_json(line) for line in lines if line.endswith("\n")]
        return list({(one.contender, one.conversation, one.repeat): one for one in found}.values())

    def _begin(self, config: Mapping[str, Any]) -> None:
        file = self.path / CONFIG
        if not file.exists():
            text = json.dumps(config, indent=1) + "\n"
            incoming = file.with_suffix(".incoming")
            incoming.write_text(text, "utf-8")
            incoming.replace(file)
        elif changed := _differences(self.config, config):
            raise Conflict(
                f"{self.path} was begun with another configuration: {', '.join(changed)} changed; "
                "give another --out, or the same configuration",
                param="out",
            )
        self._drop_torn_line()

    def _drop_torn_line(self) -> None:
        """Cut off what a killed process left of its last line, so that the next one begins a line."""
        for file in (self.path / RESULTS, self.path / TOLD):
            content = file.read_bytes() if file.exists() else b""
            if content and not content.endswith(b"\n"):
                os.truncate(file, content.rfind(b"\n") + 1)


def _differences(before: object, after: object, name: str = "") -> list[str]:
    """The dotted names of what is not the same."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return [] if before == after else [name]
    keys = sorted({*before, *after})
    return [found for key in keys for found in _differences(before.get(key), after.get(key), f"{name}.{key}".lstrip("."))]
