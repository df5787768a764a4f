"""Forgetting in the trajectory log: text, token ids, log-probs and content hashes go, a parseable tombstone stays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from recollect import log_files
from recollect.errors import Conflict
from recollect.events import LogEvent
from recollect.log_files import Segment, compress, encode, replacing
from recollect.log_read import raw_lines, read_events, refuse

Body = dict[str, Any]

# What a tombstone keeps. Anything else goes, fields of later versions too: they might hold text.
_TRAJECTORY = (
    *("id", "schema_version", "tenant", "namespace", "session", "agent", "agent_config_hash"),
    *("created_at", "memory_seq_before", "memory_seq_after", "consent"),
)
_STEP = ("index", "role", "policy", "alias", "guided", "finish_reason", "usage", "started_at", "duration_s")
_FEEDBACK = ("id", "score", "label")
_REWARD = ("name", "score", "weight")


def tombstone(event: LogEvent) -> LogEvent:
    """The event without anything that a user or a model wrote."""
    body = event.body
    match event.kind:
        case "trajectory":
            blank = {
                **_kept(body, _TRAJECTORY),
                "request": [{"role": message["role"], "content": ""} for message in body["request"]],
                "steps": _steps(body),
                "rewards": [_kept(reward, _REWARD) for reward in body.get("rewards", ())],
                "trainable": False,
            }
        case "steps":
            blank = {**_kept(body, ("memory_seq_after",)), "steps": _steps(body)}
        case "feedback":
            # An empty correction, where there was one: without it the answer would seem to have been accepted.
            blank = _kept(body, _FEEDBACK) | ({"correction": ""} if body.get("correction") is not None else {})
        case "reward":
            blank = _kept(body, _REWARD)
        case "redaction":
            blank = body
    return LogEvent(
        schema=event.schema_, event_id=event.event_id, trajectory_id=event.trajectory_id, kind=event.kind, ts=event.ts, body=blank
    )


def _kept(body: Body, fields: Iterable[str]) -> Body:
    return {name: body[name] for name in fields if name in body}


def _steps(body: Body) -> list[Body]:
    return [_kept(step, _STEP) for step in cast("list[Body]", body.get("steps", []))]


def redact(root: Path, trajectory_ids: Iterable[str]) -> int:
    """Blank every event of these trajectories in all closed segments, each rewritten atomically. Returns the events blanked.

    Idempotent. Beside the tombstones stands a `redaction` event for each trajectory. Raises Conflict, before it changes
    anything, if another live process has some of them in its open segment; CorruptLog if a segment cannot be read to its end.
    A process that has a LogWriter calls `LogWriter.redact`, which closes its own segment first.
    """
    ids = set(trajectory_ids)
    if not root.is_dir():
        return 0
    log_files.adopt(root)
    with log_files.maintenance(root):
        found = log_files.segments(root)
        for segment in found:
            if segment.plain.exists() and any(_names(line, ids) for line in raw_lines(segment, refuse)):
                raise Conflict(f"{segment.plain.name} is being written by another process; forget through that one, or stop it first")
        return sum(_rewrite(segment, ids) for segment in found if not segment.plain.exists())


def redacted_ids(root: Path) -> set[str]:
    """The trajectories that were forgotten, as far as the log reaches back. Corrupt lines are left out."""
    return {event.trajectory_id for event in read_events(root, corrupt=lambda _: None) if event.kind == "redaction"}


def _rewrite(segment: Segment, ids: set[str]) -> int:
    lines = list(raw_lines(segment, refuse))
    forgotten: set[str] = set()
    blanked = 0
    for number, line in enumerate(lines):
        if (blank := _blank(line, ids)) is None:
            continue
        lines[number], trajectory_id = blank
        forgotten.add(trajectory_id)
        blanked += 1
    if blanked:
        marks = [LogEvent(event_id=f"redaction-{name}", trajectory_id=name, kind="redaction") for name in sorted(forgotten)]
        content = b"".join([*lines, *(encode(mark) for mark in marks)])
        with replacing(segment.packed, mtime_ns=segment.packed.stat().st_mtime_ns) as file:
            file.write(compress(content))
    return blanked


def _blank(line: bytes, ids: set[str]) -> tuple[bytes, str] | None:
    """The tombstone of a line and whose it is; None if the line stays as it is."""
    try:
        event = LogEvent.model_validate_json(line)
    except ValidationError:
        # Nobody can read it, but it may hold what is to be forgotten.
        return next(((b"{}\n", name) for name in ids if name.encode() in line), None)
    if event.trajectory_id not in ids:
        return None
    blank = tombstone(event)
    return None if blank.body == event.body else (encode(blank), event.trajectory_id)


def _names(line: bytes, ids: set[str]) -> bool:
    return any(name.encode() in line for name in ids)
