"""The regression suite of the gate: generated tasks that are the same for every run and that no run trains on."""

from __future__ import annotations

from trainer.environments.generated import dialogue_task, reading_task
from trainer.environments.longcontext.fit import Length
from trainer.environments.tasks import Task


def regression_tasks(count: int, *, length: Length, section_tokens: int) -> list[Task]:
    """The first `count` tasks, a dialogue and a document in turn. `length` counts the tokens of a text.

    They ask for what occurs in no training text of the seed model, and in no task that is trained on.
    """
    return [
        reading_task(f"regression-{number}", "held_out", length, section_tokens=section_tokens)
        if number % 2
        else dialogue_task(f"regression-{number}", "held_out")
        for number in range(count)
    ]
