"""The progress bar of commands that take long: on standard error, and only where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Step = Callable[[str, int, int], None]
"""What is done, how much of it, and of how much; 0 where nobody knows."""


@contextmanager
def progress() -> Generator[Step]:
    """A bar that shows the step it was told last."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as shown:
        bar = shown.add_task("", total=None)

        def step(what: str, done: int, total: int) -> None:
            shown.update(bar, description=what, completed=done, total=total or None)

        yield step
