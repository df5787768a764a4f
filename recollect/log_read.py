"""Reading the trajectory log: events in time order from all its segments, also while other processes write them."""

from __future__ import annotations

import heapq
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

import zstandard
from pydantic import BaseModel, ValidationError

from recollect.errors import CorruptLog
from recollect.events import LogEvent, LoggedTrajectory, fold
from recollect.log_files import Segment, segments
from recollect.model import Record
from recollect.trajectory import Feedback, Reward, Step, Trajectory

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
class LogContents:
    """What the log holds. `segments` are the closed ones that were read, for `mark_consumed`."""

    trajectories: list[LoggedTrajectory]
    corrupt_lines: list[CorruptLine]
    segments: list[str]


Report = Callable[[CorruptLine], None]


def read_log(root: Path, *, strict: bool = False) -> LogContents:
    """Fold the whole log. Corrupt lines are skipped and reported; with `strict` the first one raises CorruptLog."""
    closed = [segment.name for segment in segments(root) if segment.packed.exists() and not segment.plain.exists()]
    corrupt: list[CorruptLine] = []
    trajectories = fold(_merged(root, refuse if strict else corrupt.append))
    return LogContents(trajectories=trajectories, corrupt_lines=corrupt, segments=closed)


def read_events(root: Path, *, corrupt: Report | None = None) -> Iterator[LogEvent]:
    """Every event, oldest first: within a process in the order of writing, across processes by `ts`.

    A half-written last line is left out: it was never acknowledged. A corrupt line is handed to `corrupt` and left out;
    without it, raises CorruptLog.
    """
    return _merged(root, corrupt or refuse)


def refuse(line: CorruptLine) -> None:
    """Report a corrupt line by raising CorruptLog."""
    raise CorruptLog(f"the trajectory log is corrupt: {line}; the other lines can be read")


def _merged(root: Path, corrupt: Report) -> Iterator[LogEvent]:
    """Merge by time, opening each segment only when the merge has reached its start, so that few are open at once."""
    waiting = segments(root)[::-1]
    heads: list[tuple[datetime, int, LogEvent, Iterator[LogEvent]]] = []
    opened = 0
    while waiting or heads:
        if waiting and (not heads or waiting[-1].start <= heads[0][0]):
            events = segment_events(waiting.pop(), corrupt)
            opened += 1
            order = opened
        else:
            _, order, event, events = heapq.heappop(heads)
            yield event
        if following := next(events, None):
            heapq.heappush(heads, (following.ts, order, following, events))


def segment_events(segment: Segment, corrupt: Report) -> Iterator[LogEvent]:
    """The readable events of a segment, in the order of writing."""
    for number, line in enumerate(raw_lines(segment, corrupt), 1):
        try:
            yield _event(line)
        except ValidationError as exc:
            corrupt(CorruptLine(segment.name, number, _first(exc)))


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


def _first(exc: ValidationError) -> str:
    error = exc.errors()[0]
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}" if where else error["msg"]
