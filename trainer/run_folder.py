"""The folder of one run, `<home>/runs/<id>/`: configuration, tasks, metrics, report, and candidates while it lasts."""

from __future__ import annotations

import json
import math
import secrets
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from recollect.settings import Settings
from trainer.config import TrainConfig
from trainer.task_pool import TaskPool


class RunFolder:
    """Made by `create`; files hold no text of users."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, home: Path) -> RunFolder:
        """A new run under `home`."""
        run = cls(home / "runs" / secrets.token_hex(4))
        run.candidates.mkdir(parents=True)
        run.path.chmod(0o700)
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
        return self.path / "report.json"

    @property
    def figure(self) -> Path:
        return self.path / "report.png"

    def save_config(self, config: TrainConfig, settings: Settings, *, pool: str, parent: int | None) -> None:
        """The resolved configuration, without keys, and the version that the run goes on from."""
        resolved = settings.model_dump(mode="json", exclude={"engine": {"api_key"}, "embedder": {"api_key"}, "memory": {"storage_options"}})
        trained = config.model_dump(mode="json", exclude={"judge": {"api_key"}})
        content = {"train": trained, "settings": resolved, "pool": pool, "parent": parent}
        (self.path / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")

    def save_tasks(self, pool: TaskPool) -> None:
        """Which tasks are trained on and measured. Trajectories appear as hashes of their ids."""
        parts = {"logged": pool.logged, "generated": pool.generated, "held_out": pool.held_out}
        content: dict[str, Any] = {
            part: [
                {"id": task.id, "kind": task.kind, "trajectories": [sha256(i.encode()).hexdigest() for i in task.trajectory_ids]}
                for task in tasks
            ]
            for part, tasks in parts.items()
        }
        content |= {"left_out": pool.left_out, "log": pool.log}
        (self.path / "tasks.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl. What is not a number is null there."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")

    def drop_candidates(self) -> None:
        """Delete the candidates' weights. Only after the engine has unloaded them: it dies if a loaded adapter's files vanish."""
        shutil.rmtree(self.candidates, ignore_errors=True)
