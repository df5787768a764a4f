"""Who had what done by whom: a line of JSON for each call, in a file a month. No text of tasks, answers or memories is in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

from recollect.log_files import full_disk_named
from recollect.model import Frozen
from recollect.trajectory import now


class Entry(Frozen):
    """One call. `call` is a tool of the profile, `task` what a worker did, or `worker.<tool>` what its model called on the way."""

    call: str
    tenant: str
    key_id: str | None = None
    decision: Literal["allowed", "denied"]
    reason: str = ""
    """The code of what it was denied or failed for."""
    target: str | None = None
    worker_id: str | None = None
    trajectory_id: str | None = None
    path: str | None = None
    """Of a file that a worker's model looked at. Of one that was refused nothing is told: it may be any text."""
    chars: int | None = None
    """Of the task."""
    tokens: int | None = None
    duration_s: float | None = None
    ok: bool = True


class Audit:
    """Appends; a line is whole or not there, and stands before the caller is answered."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, entry: Entry) -> None:
        """Append one line. Raises StorageFull."""
        at = now()
        line = json.dumps({"at": at.isoformat(), **entry.model_dump(exclude_none=True)}, ensure_ascii=False) + "\n"
        with full_disk_named("the audit of delegated work cannot be written"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._folder / f"audit-{at:%Y-%m}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, line.encode(errors="replace"))
            finally:
                os.close(descriptor)
