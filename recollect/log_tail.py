"""What the trajectory log has got new: each event once, whichever process wrote it, without reading again what was read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from recollect.errors import NewerLog
from recollect.events import LogEvent
from recollect.log_files import Segment, segments
from recollect.log_read import raw_lines
from recollect.trajectory import SCHEMA_VERSION

_CHUNK = 1 << 20
"""Bytes that are read at once: each reading gives way to all other threads."""


class LogTail:
    """The events of a log from a moment on, as far as it goes when they are asked for, in the order of each segment.

    Bodies are not checked; lines that are none are passed over.
    """

    def __init__(self, root: Path, since: datetime) -> None:
        """Segments that nobody has written to since then are left out; of others earlier events are told too."""
        self._root = root
        self._since = since.timestamp()
        self._lines: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._newer: NewerLog | None = None

    def new(self) -> Iterator[LogEvent]:
        """The events that were written since they were last asked for. Raises NewerLog."""
        if self._newer is not None:
            raise self._newer
        for segment in segments(self._root):
            for line in self._new_lines(segment):
                try:
                    event = LogEvent.model_validate_json(line)
                except ValidationError:
                    continue
                if event.schema_ > SCHEMA_VERSION:
                    said = f"segment {segment.name} of the trajectory log is of a newer Recollect (schema {event.schema_})"
                    self._newer = NewerLog(f"{said}; upgrade Recollect here (nothing was changed)")
                    raise self._newer
                yield event

    def _new_lines(self, segment: Segment) -> Iterator[bytes]:
        state = self._changed(segment)
        if state is None:
            return
        _, size = state
        try:
            with segment.plain.open("rb", buffering=_CHUNK) as file:
                file.seek(self._bytes.get(segment.name, 0))
                for line in file:
                    if not line.endswith(b"\n"):  # it is being written
                        return
                    if self._bytes.get(segment.name, 0) >= size:  # written since: a busy server would be followed for ever
                        return
                    self._lines[segment.name] = self._lines.get(segment.name, 0) + 1
                    self._bytes[segment.name] = self._bytes.get(segment.name, 0) + len(line)
                    yield line
        except FileNotFoundError:  # packed: its lines are those that they were, and there may be more
            passed = self._lines.get(segment.name, 0)
            for line in islice(raw_lines(segment, lambda _: None), passed, None):
                self._lines[segment.name] = self._lines.get(segment.name, 0) + 1
                yield line
        self._seen[segment.name] = state

    def _changed(self, segment: Segment) -> tuple[int, int] | None:
        """What tells a segment's present content apart from an earlier one; None if it is that which was read, or too old."""
        try:
            status = os.stat(segment.plain if segment.plain.exists() else segment.packed)
        except FileNotFoundError:
            return None
        state = status.st_ino, status.st_size
        return None if status.st_mtime < self._since or self._seen.get(segment.name) == state else state
