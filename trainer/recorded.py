"""The rollouts of a run on disk, `<run>/rollouts/`: each is written when it arrives, so that a run which died repeats none of them.

A log like that of trajectories. An event's id is `<stage>/<place of the task>/<sibling>`; stages are `closed_book`, `before`, the
numbers of the iterations, and `after-<updates>`. One that failed is written when its stage is over, if not all did and the engine
was there: a run that goes on after an engine died tries it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from recollect.events import LogEvent
from recollect.log import LogWriter
from recollect.log_read import CorruptLine, Report, placed_events, refuse
from recollect.log_redact import redacted_ids
from recollect.settings import LogSettings
from recollect.trajectory import Trajectory

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecordedRollout:
    """A recorded rollout and its place. `forgotten`: what was said in it is gone."""

    stage: str
    task: int
    sibling: int
    trajectory: Trajectory
    forgotten: bool = False


class Recorded:
    """What a run recorded, and what it records from now on."""

    def __init__(self, root: Path, needed: Callable[[str], bool]) -> None:
        """`needed` tells the stages whose rollouts will be asked for. Raises NewerLog, StorageFull."""
        found = (one for one in recorded_rollouts(root, _lost) if needed(one.stage) and not one.forgotten)
        self._found = {_name(one.stage, one.task, one.sibling): one.trajectory for one in found}
        self._log = LogWriter(root, LogSettings())

    def stage(self, name: str) -> StageRecord:
        """The rollouts of one stage."""
        return StageRecord(self, name)

    def get(self, name: str) -> Trajectory | None:
        """The rollout of that id."""
        return self._found.get(name)

    async def add(self, name: str, trajectory: Trajectory) -> None:
        """Record a rollout. When this returns it survives the death of the process. Raises StorageFull."""
        body = trajectory.model_dump(mode="json")
        await self._log.log(LogEvent(event_id=name, trajectory_id=trajectory.id, kind="trajectory", body=body))

    def close(self) -> None:
        """Pack what was written."""
        self._log.close()


@dataclass(frozen=True, slots=True)
class StageRecord:
    """The rollouts of one stage of a run."""

    recorded: Recorded
    name: str

    def get(self, task: int, sibling: int, task_id: str) -> Trajectory | None:
        """The recorded rollout of a place; None if there is none of this task."""
        found = self.recorded.get(_name(self.name, task, sibling))
        return found if found is not None and found.session == task_id else None

    async def add(self, task: int, sibling: int, trajectory: Trajectory) -> None:
        """Record the rollout of a place."""
        await self.recorded.add(_name(self.name, task, sibling), trajectory)


def stage_of(iteration: int) -> str:
    """The name of an iteration's stage."""
    return f"{iteration:04}"


def recorded_rollouts(root: Path, corrupt: Report = refuse) -> Iterator[RecordedRollout]:
    """Every recorded rollout, oldest first. Raises NewerLog, and CorruptLog unless `corrupt` takes the lines that cannot be read."""
    forgotten = redacted_ids(root)
    for placed in placed_events(root, corrupt):
        event = placed.event
        if event.kind == "trajectory":
            stage, task, sibling = event.event_id.split("/")
            trajectory = Trajectory.model_validate(event.body)
            yield RecordedRollout(stage, int(task), int(sibling), trajectory, forgotten=trajectory.id in forgotten)


def _lost(line: CorruptLine) -> None:
    logger.warning("a recorded rollout cannot be read and is rolled out again: %s", line)


def _name(stage: str, task: int, sibling: int) -> str:
    return f"{stage}/{task}/{sibling}"
