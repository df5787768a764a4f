"""How far each policy's training has come in the trajectory log: which run took which lines, so that each event is learned from once.

A segment only grows; packing keeps its lines, forgetting blanks them in place. So a line is named for ever by its segment and
its number, and a run's share of the log is a set of lines. No clock decides: a segment that begins before others were read,
because a clock was set back or another process writes too, is new all the same.

A run that has its tasks takes its lines by one file, `cursors/<pool>/<policy>/<run>.json`, renamed into place. What is in no
file of the policy is new. A run that died before has taken nothing; one that died later is resumed with what its file names;
`give_back` makes it new again.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from recollect.errors import Conflict, NotFound, RecollectError
from recollect.events import LogEvent, LoggedTrajectory, fold, teaches
from recollect.log_files import replacing
from recollect.log_read import CorruptLine, Placed, closed_segments, placed_events
from recollect.model import Frozen
from recollect.trajectory import now

FOLDER = "cursors"
Span = tuple[int, int]
"""Lines of a segment: from, counted from 0, and up to, exclusive."""


class Window(Frozen):
    """A view of the log: by segment, `until` is how many lines there were and `fresh` which of them no run had taken."""

    until: dict[str, int]
    fresh: dict[str, tuple[Span, ...]]

    @property
    def num_fresh(self) -> int:
        """How many lines are new."""
        return sum(end - start for spans in self.fresh.values() for start, end in spans)


class Taken(Frozen):
    """What a run took. `finished`: it needs the log no more."""

    run_id: str
    pool: str
    policy: str
    window: Window
    finished: bool = False


@dataclass(frozen=True, slots=True)
class WindowContents:
    """The log as a window shows it. `fresh` are the ids of trajectories that something new was said by, or of.

    `closed` are the segments that were closed when reading began; `num_later` counts events with a time that is yet to come.
    """

    window: Window
    trajectories: list[LoggedTrajectory]
    fresh: frozenset[str]
    corrupt_lines: list[CorruptLine]
    closed: list[str]
    num_later: int


def read_new(root: Path, *, pool: str, policy: str) -> WindowContents:
    """The whole log up to now, and what of it no run of the policy has taken. Takes nothing. Raises NewerLog."""
    before = _merged(one.window.fresh for one in runs(root, pool=pool, policy=policy))
    passed: dict[str, int] = {}
    found = _read(root, None, passed, lambda one: not _within(one, before))
    return replace(found, window=Window(until=dict(sorted(passed.items())), fresh=_rest(passed, before)))


def read_taken(root: Path, taken: Taken) -> WindowContents:
    """The log as a run saw it, less what was forgotten or deleted since."""
    return _read(root, taken.window, {}, lambda one: _within(one, taken.window.fresh))


def take(root: Path, run_id: str, window: Window, *, pool: str, policy: str) -> Taken:
    """Take a window's new lines, for ever: they are new to no later run. All or nothing, and durable; the same again is a no-op.

    Raises Conflict if another run has taken some of them meanwhile.
    """
    wanted = Taken(run_id=run_id, pool=pool, policy=policy, window=window)
    with _alone(root):
        for other in runs(root, pool=pool, policy=policy):
            if other.run_id == run_id and other.window == window:
                return other
            if other.run_id == run_id or _overlap(other.window.fresh, window.fresh):
                raise Conflict(f"run {other.run_id} has taken events of the log that run {run_id} was to take; start a new run")
        _write(root, wanted)
    return wanted


def taken_by(root: Path, run_id: str) -> Taken | None:
    """What a run took; None if it took nothing."""
    found = next((root / FOLDER).glob(f"*/*/{run_id}.json"), None)
    return None if found is None else _load(found)


def finish(root: Path, run_id: str) -> None:
    """The run needs the log no more: retention may delete what it read. Raises NotFound if it took nothing."""
    with _alone(root):
        _write(root, _known(root, run_id).model_copy(update={"finished": True}))


def give_back(root: Path, run_id: str) -> None:
    """Make new again what an unfinished run took, because it will never be resumed. Raises NotFound, Conflict for a finished one."""
    with _alone(root):
        taken = _known(root, run_id)
        if taken.finished:
            raise Conflict(f"run {run_id} has finished: it learned from what it took")
        _path(root, taken).unlink()


def runs(root: Path, *, pool: str, policy: str) -> list[Taken]:
    """What each run of a policy took."""
    return [_load(path) for path in sorted((root / FOLDER / pool / policy).glob("*.json"))]


def all_taken(root: Path) -> list[Taken]:
    """What each run of any policy took."""
    return [_load(path) for path in sorted((root / FOLDER).glob("*/*/*.json"))]


def held(root: Path) -> set[str]:
    """Segments that a run which has not finished will read again when it is resumed."""
    return {name for one in all_taken(root) if not one.finished for name in one.window.fresh}


def _read(root: Path, window: Window | None, passed: dict[str, int], is_fresh: Callable[[Placed], bool]) -> WindowContents:
    """One pass; nothing is kept of an event beyond its id and what is folded."""
    closed, moment = closed_segments(root), now()
    corrupt: list[CorruptLine] = []
    old, new, num_later = set[str](), list[tuple[str, str]](), 0

    def events() -> Iterator[LogEvent]:
        nonlocal num_later
        for one in placed_events(root, corrupt.append, until=window.until if window else None, passed=passed):
            num_later += one.event.ts > moment
            if not is_fresh(one):
                old.add(one.event.event_id)
            elif teaches(one.event):
                new.append((one.event.event_id, one.event.trajectory_id))
            yield one.event

    trajectories = fold(events())
    # An event that is in the log twice was taken with the first of the two, wherever the other stands.
    fresh = frozenset(trajectory_id for event_id, trajectory_id in new if event_id not in old)
    return WindowContents(window or Window(until={}, fresh={}), trajectories, fresh, corrupt, closed, num_later)


def _within(one: Placed, spans: Mapping[str, Sequence[Span]]) -> bool:
    return any(start < one.line <= end for start, end in spans.get(one.segment, ()))


def _rest(passed: Mapping[str, int], taken: Mapping[str, list[Span]]) -> dict[str, tuple[Span, ...]]:
    """By segment, the lines that were passed and are in no span of `taken` (in order, not overlapping)."""
    found: dict[str, tuple[Span, ...]] = {}
    for name, lines in sorted(passed.items()):
        edges = [0, *(edge for span in taken.get(name, ()) for edge in span), lines]
        gaps = tuple((start, min(end, lines)) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < min(end, lines))
        if gaps:
            found[name] = gaps
    return found


def _merged(windows: Iterable[Mapping[str, tuple[Span, ...]]]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for window in windows:
        for name, spans in window.items():
            found.setdefault(name, []).extend(spans)
    return {name: sorted(spans) for name, spans in found.items()}


def _overlap(one: Mapping[str, tuple[Span, ...]], other: Mapping[str, tuple[Span, ...]]) -> bool:
    pairs = ((a, b) for name in one.keys() & other.keys() for a in one[name] for b in other[name])
    return any(a[0] < b[1] and b[0] < a[1] for a, b in pairs)


def _known(root: Path, run_id: str) -> Taken:
    if (taken := taken_by(root, run_id)) is None:
        raise NotFound(f"run {run_id} has taken nothing from the log", param="run")
    return taken


def _path(root: Path, taken: Taken) -> Path:
    return root / FOLDER / taken.pool / taken.policy / f"{taken.run_id}.json"


def _write(root: Path, taken: Taken) -> None:
    path = _path(root, taken)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(taken.model_dump(mode="json")).encode())


def _load(path: Path) -> Taken:
    try:
        return Taken.model_validate_json(path.read_bytes())
    except ValidationError as exc:
        raise RecollectError(f"{path} cannot be read; restore it from a backup, or delete it and its run's events are new again") from exc


@contextmanager
def _alone(root: Path) -> Generator[None]:
    """One process at a time decides who takes what."""
    (root / FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(root / FOLDER / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
