"""Reading the trajectory log: events in time order from all its segments, also while other processes write them."""

from __future__ import annotations

import heapq
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import zstandard
from pydantic import BaseModel, ValidationError

from recollect.errors import CorruptLog, NewerLog
from recollect.events import LogEvent, LoggedTrajectory, fold
from recollect.log_files import Segment, segments
from recollect.model import Record
from recollect.trajectory import SCHEMA_VERSION, Feedback, Reward, Step, Trajectory

_HEADER, _BUFFER = 18, 1 << 17


class StepsBody(Record):
    """The body of a `steps` event: late steps, the memory's state after them, and what they failed with."""

    steps: list[Step]
    memory_seq_after: dict[str, int] | None = None
    memory_error: str | None = None


_BODIES: dict[str, type[BaseModel]] = {"trajectory": Trajectory, "steps": StepsBody, "feedback": Feedback, "reward": Reward}


@dataclass(frozen=True, slots=True)
class CorruptLine:
    """A line that cannot be read: its segment, its number (from 1) and why."""

    segment: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"segment {self.segment}, line {self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Placed:
    """An event and where it stands: its segment, and its line there, from 1. Forgetting blanks a line and moves none."""

    segment: str
    line: int
    event: LogEvent


@dataclass(frozen=True, slots=True)
class LogContents:
    """What the log holds. `segments` are the closed ones that were read, for `mark_consumed`."""

    trajectories: list[LoggedTrajectory]
    corrupt_lines: list[CorruptLine]
    segments: list[str]


Report = Callable[[CorruptLine], None]


def read_log(root: Path, *, strict: bool = False) -> LogContents:
    """Fold the whole log. Corrupt lines are skipped and reported; with `strict` the first one raises CorruptLog. Raises NewerLog."""
    closed = closed_segments(root)
    corrupt: list[CorruptLine] = []
    events = placed_events(root, refuse if strict else corrupt.append)
    trajectories = fold(placed.event for placed in events)
    return LogContents(trajectories=trajectories, corrupt_lines=corrupt, segments=closed)


def read_events(root: Path, *, corrupt: Report | None = None) -> Iterator[LogEvent]:
    """Every event, oldest first: within a process in the order of writing, across processes by `ts`.

    A half-written last line is left out: it was never acknowledged. A corrupt line is handed to `corrupt` and left out;
    without it, raises CorruptLog. Raises NewerLog.
    """
    return (placed.event for placed in placed_events(root, corrupt or refuse))


def closed_segments(root: Path) -> list[str]:
    """Names of the segments that nobody writes any more, oldest first."""
    return [segment.name for segment in segments(root) if segment.packed.exists() and not segment.plain.exists()]


def refuse(line: CorruptLine) -> None:
    """Report a corrupt line by raising CorruptLog."""
    raise CorruptLog(f"the trajectory log is corrupt: {line}; the other lines can be read")


def placed_events(
    root: Path, corrupt: Report, *, until: Mapping[str, int] | None = None, passed: dict[str, int] | None = None
) -> Iterator[Placed]:
    """As `read_events`, with places; of the segments in `until` alone so many lines each, if it is given.

    `passed` is filled with the lines of each segment that were read, corrupt ones too. The merge is by time and opens each
    segment only when it has reached its start, so that few are open at once.
    """
    waiting = [segment for segment in segments(root) if until is None or segment.name in until][::-1]
    heads: list[tuple[datetime, int, Placed, Iterator[Placed]]] = []
    opened = 0
    while waiting or heads:
        if waiting and (not heads or waiting[-1].start <= heads[0][0]):
            segment = waiting.pop()
            events = _segment_events(segment, corrupt, None if until is None else until[segment.name], passed)
            opened += 1
            order = opened
        else:
            _, order, placed, events = heapq.heappop(heads)
            yield placed
        if following := next(events, None):
            heapq.heappush(heads, (following.event.ts, order, following, events))


def _segment_events(segment: Segment, corrupt: Report, until: int | None, passed: dict[str, int] | None) -> Iterator[Placed]:
    """The readable events of a segment, in the order of writing."""
    for number, line in enumerate(islice(raw_lines(segment, corrupt), until), 1):
        if passed is not None:
            passed[segment.name] = number
        try:
            placed, reason = Placed(segment.name, number, _event(line)), ""
        except ValidationError as exc:
            placed, reason = None, _first(exc)
        schema = placed.event.schema_ if placed else _schema(line)
        if schema > SCHEMA_VERSION:
            raise NewerLog(
                f"the trajectory log is of a newer Recollect: segment {segment.name}, line {number} has schema {schema}, and this version "
                f"reads up to {SCHEMA_VERSION}; upgrade Recollect here (nothing was changed)"
            )
        if placed:
            yield placed
        else:
            corrupt(CorruptLine(segment.name, number, reason))


def raw_lines(segment: Segment, corrupt: Report) -> Iterator[bytes]:
    """The whole lines of a segment. One that retention has just deleted has none; of a damaged one, those before the damage."""
    file = _open(segment)
    if file is None:
        return
    number, size = 0, 0
    with file:
        try:
            lines, expected = _lines(file)
            for line in lines:
                size += len(line)
                if not line.endswith(b"\n"):
                    break
                number += 1
                yield line
            if expected is not None and size != expected:
                corrupt(CorruptLine(segment.name, number + 1, f"the file ends after {size} of {expected} bytes"))
        except zstandard.ZstdError as exc:
            corrupt(CorruptLine(segment.name, number + 1, f"the rest of the file is lost: {exc}"))


def _open(segment: Segment) -> BinaryIO | None:
    # The plain file first: packing removes it only when the packed one is whole.
    for path in (segment.plain, segment.packed):
        with suppress(FileNotFoundError):
            return path.open("rb")
    return None


def _lines(file: BinaryIO) -> tuple[Iterable[bytes], int | None]:
    """The lines of a segment and, of a packed one, how many bytes they must be together."""
    if not file.name.endswith(".zst"):
        return file, None
    expected = zstandard.frame_content_size(file.read(_HEADER))
    file.seek(0)
    # zstandard ships no types for readers; a decompressing reader is a raw stream.
    return io.BufferedReader(cast("io.RawIOBase", zstandard.ZstdDecompressor().stream_reader(file)), _BUFFER), expected


def _event(line: bytes) -> LogEvent:
    """The event of one line, its body checked too. Raises ValidationError."""
    event = LogEvent.model_validate_json(line)
    if event.kind in _BODIES:
        _BODIES[event.kind].model_validate(event.body)
    return event


def _schema(line: bytes) -> int:
    """The schema that a line names, 0 if it names none: one of a later schema need not look like an event of this one."""
    try:
        found: Any = json.loads(line)
    except ValueError:
        return 0
    schema = cast("dict[str, Any]", found).get("schema") if isinstance(found, dict) else None
    return schema if isinstance(schema, int) else 0


def _first(exc: ValidationError) -> str:
    error = exc.errors()[0]
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}" if where else error["msg"]
