"""Workers on disk: `workers/<tenant>/<id>.json`, mode 0600, each whole or not there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_core import PydanticSerializationError

from recollect.errors import InvalidRequest, NotFound, RecollectError
from recollect.log_files import full_disk_named, replacing
from recollect.memory import Namespace
from recollect.messages import Message
from recollect.model import Record
from recollect.trajectory import now
from server.delegation.plan import Effort

State = Literal["running", "done", "failed", "interrupted", "closed"]
_ID = re.compile(r"worker_[0-9a-f]{32}")


class Worker(Record):
    """A conversation with a model that does tasks. Between two tasks it is `done`; `interrupted`: the server ended before its answer."""

    id: str
    tenant: str
    namespace: str
    key_id: str | None = None
    description: str = ""
    type: str = ""
    task: str = ""
    """Its type, for routing."""
    effort: Effort | None = None
    use: str = ""
    """Whom its asker named; empty: routed by the rules."""
    folder: str | None = None
    """Where Codex works."""
    state: State = "done"
    target: str = ""
    """Who did its last task, or does it now."""
    messages: list[Message] = Field(default_factory=list[Message])
    inbox: list[str] = Field(default_factory=list[str])
    """What it was sent and has not begun."""
    answer: str = ""
    error: str = ""
    thread: str | None = None
    """Codex's own conversation."""
    tokens: int = 0
    trajectories: list[str] = Field(default_factory=list[str])
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)


class WorkerFiles:
    """Reading and writing them. Blocking."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(self, worker: Worker) -> None:
        """Write it, durable when this returns. Raises StorageFull."""
        folder = self._root / worker.tenant
        try:
            content = worker.model_dump_json().encode()
        except PydanticSerializationError as exc:
            raise InvalidRequest("it holds half of a surrogate pair, which no file takes", param="text") from exc
        with full_disk_named("the worker cannot be written"):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            with replacing(folder / f"{worker.id}.json") as file:
                file.write(content + b"\n")

    def get(self, namespace: Namespace, worker_id: str) -> Worker:
        """One of a namespace. Raises NotFound, also for another's."""
        path = self._root / namespace.tenant / f"{worker_id}.json"
        worker = _read(path) if _ID.fullmatch(worker_id) else None
        if worker is None or worker.namespace != str(namespace):
            raise NotFound(f"no worker {worker_id[:80]!r}; list_agents shows yours, spawn_agent makes one", param="worker_id")
        return worker

    def list(self, tenant: str) -> Sequence[Worker]:
        """Those of a tenant, newest first."""
        found = [worker for path in (self._root / tenant).glob("*.json") if (worker := _read(path)) is not None]
        return sorted(found, key=lambda worker: worker.id, reverse=True)

    def delete(self, worker: Worker) -> None:
        """Remove it."""
        (self._root / worker.tenant / f"{worker.id}.json").unlink(missing_ok=True)

    def forget(self, tenant: str, chosen: Callable[[Worker], bool]) -> None:
        """Remove those of a tenant of which `chosen` holds, and what killed writes left. Raises RecollectError for one without form."""
        folder = self._root / tenant
        for left in folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)
        for path in folder.glob("*.json"):
            worker = _read(path)
            if worker is None:
                message = f"{path} cannot be read, so it cannot be said to hold nothing of what is forgotten; remove the file"
                raise RecollectError(message, code="damaged_worker")
            if chosen(worker):
                self.delete(worker)

    def drop(self, tenant: str) -> None:
        """Remove all of a tenant."""
        folder = self._root / tenant
        if folder.is_dir():
            shutil.rmtree(folder)


def _read(path: Path) -> Worker | None:
    try:
        return Worker.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
