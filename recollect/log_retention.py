"""How long the trajectory log keeps its closed segments: by age and bytes, never less than until training has read them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from recollect.log_cursor import held
from recollect.log_files import aside, maintenance, replacing, segments
from recollect.settings import LogSettings

logger = logging.getLogger(__name__)


def mark_consumed(root: Path, run_id: str, names: Iterable[str], *, policy: str = "") -> None:
    """Say that training run `run_id` has read these closed segments: as far as its policy goes, retention may delete them."""
    folder = root / "consumed"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(folder / f"{run_id}.json") as file:
        file.write(json.dumps({"run_id": run_id, "policy": policy, "segments": sorted(names)}).encode())


def consumed(root: Path) -> set[str]:
    """Names of the segments that every policy which trains has read, and that no unfinished run will read again.

    A mark without a policy counts for all.
    """
    read: dict[str, set[str]] = {}
    for path in sorted((root / "consumed").glob("*.json")):
        mark = cast("dict[str, Any]", json.loads(path.read_text("utf-8")))
        read.setdefault(mark.get("policy", ""), set()).update(mark["segments"])
    by_all = read.pop("", set())
    by_each = {name for one in read.values() for name in one if all(name in other for other in read.values())}
    return (by_all | by_each) - held(root)


def retire(root: Path, settings: LogSettings) -> list[str]:
    """Delete closed segments beyond `keep_days` or `keep_bytes`, oldest first, never one that training has not read.

    Returns the names of the deleted ones. If unread segments alone exceed a limit, warns and keeps them.
    """
    with maintenance(root):
        closed = [(s, s.packed.stat()) for s in segments(root) if s.packed.exists()]
        total = sum(status.st_size for _, status in closed)
        oldest_kept = 0.0 if settings.keep_days is None else time.time() - timedelta(days=settings.keep_days).total_seconds()
        read = consumed(root)
        deleted: list[str] = []
        unread = 0
        for segment, status in closed:
            if total <= settings.keep_bytes and status.st_mtime >= oldest_kept:
                continue
            if segment.name not in read:
                unread += 1
                continue
            segment.packed.unlink()
            aside(segment.packed).unlink(missing_ok=True)
            total -= status.st_size
            deleted.append(segment.name)
    if unread:
        logger.warning(
            "the trajectory log is beyond log.keep_bytes or log.keep_days, but %d segments were not read by every policy that trains: kept",
            unread,
        )
    return deleted
