"""The folder of one run, `<home>/runs/<id>/`: configuration, tasks, rollouts, metrics, report; checkpoint and candidates while it lasts."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from recollect.errors import ConfigurationError
from recollect.log_files import replacing
from recollect.registry import Registry
from recollect.run_records import PARTS, REPORT, ROLLOUTS, TASKS, drop_checkpoints
from recollect.settings import Settings
from trainer.config import TrainConfig
from trainer.environments.tasks import Task
from trainer.measured import Measured
from trainer.task_pool import TaskPool

ABANDONED = "abandoned"
"""In the folder of a run whose events were given back."""


class TasksChanged(ConfigurationError):
    """A run cannot go on, because its tasks cannot be made again."""


class RunFolder:
    """Made by `create`. Only the rollouts hold text of users."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, home: Path) -> RunFolder:
        """A new run under `home`."""
        run = cls(home / "runs" / secrets.token_hex(4))
        run.path.mkdir(mode=0o700, parents=True)
        return run

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def candidates(self) -> Path:
        return self.path / "candidates"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def report(self) -> Path:
        return self.path / REPORT

    @property
    def figure(self) -> Path:
        return self.path / "report.png"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def rollouts(self) -> Path:
        return self.path / ROLLOUTS

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.report.is_file()

    def save_config(
        self, config: TrainConfig, settings: Settings, *, pool: str, parent: int | None, replaces: int | None, window: int
    ) -> None:
        """The resolved configuration, without keys, the version that the run goes on from, the one that it replaces, and the
        tokens of the model's window."""
        engine: dict[str, Any] = {"api_key": True, "fallback": {"api_key"}}
        secret = {"engine": engine, "embedder": {"api_key"}, "memory": {"storage_options"}, "telemetry": {"headers"}}
        resolved = settings.model_dump(mode="json", exclude=secret)
        trained = config.model_dump(mode="json", exclude={"judge": {"api_key"}})
        content = {"train": trained, "settings": resolved, "pool": pool, "parent": parent, "replaces": replaces, "window": window}
        with replacing(self.config) as file:
            file.write(yaml.safe_dump(content, sort_keys=False).encode())

    def fruitless_resumes(self, recorded: int) -> int:
        """How often in a row a night has gone on with the run, this time included, while it had `recorded` rollouts and no more."""
        file = self.path / "resumed.json"
        before = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        count = before["count"] + 1 if before.get("recorded") == recorded else 1
        with replacing(file) as written:
            written.write(json.dumps({"count": count, "recorded": recorded}).encode())
        return count

    def before(self) -> Measured | None:
        """How the policy that the run began with was measured; None if it died before that was done."""
        file = self.path / "before.json"
        return Measured.model_validate_json(file.read_bytes()) if file.is_file() else None

    def save_before(self, measured: Measured) -> None:
        """Keep how it was measured: it is not loaded any more when a run that died goes on."""
        with replacing(self.path / "before.json") as file:
            file.write(measured.model_dump_json().encode())

    def checkpoint(self) -> tuple[int, Path] | None:
        """The last checkpoint: the number of the iteration that it stands behind, and its file."""
        found = sorted(self.path.glob("checkpoint-*.pt"))
        return (int(found[-1].stem.partition("-")[2]), found[-1]) if found else None

    def checkpointed(self, number: int, write: Callable[[Path], None]) -> None:
        """Have the checkpoint behind iteration `number` written, and drop the one before."""
        before = self.checkpoint()
        write(self.path / f"checkpoint-{number:04}.pt")
        if before is not None and before[0] != number:
            before[1].unlink()

    def written_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return [json.loads(line) for line in self.metrics.read_bytes().splitlines()] if self.metrics.is_file() else []

    def kept_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl behind which a checkpoint stands. Others are cut off: their iterations come again."""
        last = self.checkpoint()
        lines = self.metrics.read_bytes().splitlines(keepends=True)[: last[0]] if last else []
        if self.metrics.is_file():
            with replacing(self.metrics) as file:
                file.writelines(lines)
        return [json.loads(line) for line in lines]

    def save_tasks(self, pool: TaskPool) -> None:
        """Which tasks are trained on and measured. Trajectories appear as hashes of their ids."""
        parts: dict[str, Sequence[Task]] = {part: getattr(pool, part) for part in PARTS}
        content: dict[str, Any] = {
            part: [
                {"id": task.id, "kind": task.kind, "trajectories": [sha256(i.encode()).hexdigest() for i in task.trajectory_ids]}
                for task in tasks
            ]
            for part, tasks in parts.items()
        }
        content |= {"left_out": pool.left_out, "log": pool.log}
        with replacing(self.path / TASKS) as file:
            file.write(f"{json.dumps(content, indent=1)}\n".encode())

    def check_tasks(self, pool: TaskPool) -> None:
        """Raises TasksChanged if these are not the tasks that the run began with."""
        said = json.loads((self.path / TASKS).read_text("utf-8"))
        began = {task["id"] for part in PARTS for task in said[part]}
        if began != {task.id for task in (*pool.training, *pool.held_out)}:
            raise TasksChanged(
                f"the tasks of run {self.id} are not those that it began with: something of the log is gone, or the agents were changed; "
                f"recollect runs give-back {self.id}, and start a new run",
                param="resume",
            )

    def frozen(self, registry: Registry, aliases: Collection[str], pool: str) -> dict[str, int | None]:
        """By alias the version that the run samples from and does not train: the current one when it began, None for the base model."""
        file = self.path / "frozen.json"
        if not file.is_file():
            with replacing(file) as written:
                written.write(json.dumps({alias: registry.current(alias, pool) for alias in aliases}).encode())
        return self.frozen_versions()

    def frozen_versions(self) -> dict[str, int | None]:
        """Those versions; none of a run that died before it chose them."""
        file = self.path / "frozen.json"
        return json.loads(file.read_text("utf-8")) if file.is_file() else {}

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl. What is not a number is null there."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def drop_candidates(self) -> None:
        """Delete the candidates' weights. Only after the engine has unloaded them: it dies if a loaded adapter's files vanish."""
        shutil.rmtree(self.candidates, ignore_errors=True)

    def drop_checkpoints(self) -> None:
        """Delete what only an unfinished run needs."""
        drop_checkpoints(self.path)
