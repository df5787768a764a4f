"""Session curriculum: short conversations first (Memory-R2, arXiv 2605.21768: 8, then 16, then 32 sessions)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator

from recollect.errors import ConfigurationError
from recollect.model import Frozen
from trainer.environments.tasks import Task


class Curriculum(Frozen):
    """Stages of equal numbers of iterations. Without `most` there is one, that of all tasks."""

    by: Literal["turns", "sessions"] = "turns"
    """What a conversation's length is counted in. A document has none of either, and is drawn at every stage."""
    most: tuple[int, ...] = ()
    """The longest conversation of each stage but the last, which draws from all tasks: [8, 16] is the paper's."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(after <= before for before, after in zip((0, *self.most), self.most, strict=False)):
            raise ValueError(f"most is {list(self.most)}; write whole numbers above 0, each above the one before it")
        return self

    def limit(self, number: int, iterations: int) -> int | None:
        """The longest conversation of iteration `number` (from 1) of so many; None: any."""
        stage = min((number - 1) * (len(self.most) + 1) // iterations, len(self.most))
        return self.most[stage] if stage < len(self.most) else None

    def fitting(self, tasks: Sequence[Task], limit: int | None) -> list[Task]:
        """The tasks that are no longer than the limit, in their order."""
        return [task for task in tasks if limit is None or self.length(task) <= limit]

    def length(self, task: Task) -> int:
        """Turns, or sessions; turns that name no session are all of one."""
        if self.by == "turns":
            return len(task.conversation)
        named = {turn.session for turn in task.conversation if turn.session}
        return len(named) or min(1, len(task.conversation))

    def check(self, tasks: Sequence[Task]) -> None:
        """Raises ConfigurationError if the first stage has no task."""
        if self.most and tasks and not self.fitting(tasks, self.most[0]):
            shortest = min(map(self.length, tasks))
            raise ConfigurationError(
                f"curriculum.most begins with {self.most[0]} {self.by}, but the shortest conversation has {shortest}; raise it",
                param="curriculum.most",
            )
