"""`recollect demo`, read from top to bottom: serve, remember, find by MCP, correct, measure, train, swap, measure again."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from recollect.errors import RecollectError
from recollect.invocation import Invocation

console = Console(stderr=True, highlight=False)


def main(
    ctx: typer.Context,
    dialogues: Annotated[int, typer.Option(min=1, help="Users who tell facts and ask for them.")] = 64,
    documents: Annotated[int, typer.Option(min=1, help="Documents that are read and asked about.")] = 64,
    held_out: Annotated[int, typer.Option(min=2, help="Held-out tasks, half dialogues, half documents.")] = 120,
    train_overrides: Annotated[list[str] | None, typer.Option("--train", help="key=value for `recollect train`.")] = None,
    serve_overrides: Annotated[list[str] | None, typer.Option("--serve", help="key=value for `recollect serve`.")] = None,
    lose_log: Annotated[bool, typer.Option(hidden=True, help="Delete the log before training: the demo must fail there.")] = False,
    keep: Annotated[bool, typer.Option(help="Leave the server running at the end and print how to connect.")] = False,
    nightly: Annotated[bool, typer.Option("--nightly", help="Days of traffic and nights of learning, one of them sabotaged.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Of --nightly: so many times, each in a home of its own.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON on standard output.")] = False,
) -> None:
    """Watch the whole loop turn: an agent serves and remembers, learns from its log, is swapped, and remembers better.

    Everything is kept under `recollect --home`, or under .recollect/demo-<time>.
    """
    from trainer.demo.story import Sizes, tell

    sizes = Sizes(dialogues=dialogues, documents=documents, held_out=held_out)
    place = (ctx.obj or Invocation()).home or Path(".recollect") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    how: dict[str, Any] = {
        "progress": _progress,
        "train_overrides": train_overrides or [],
        "serve_overrides": serve_overrides or [],
    }
    try:
        if nightly:
            from trainer.demo.nights import tell_nights

            story = tell_nights(place, sizes, seeds, console, **how)
        else:
            before_training = (lambda: shutil.rmtree(place / "trajectories")) if lose_log else None
            story = tell(place, sizes, console, before_training=before_training, keep=keep, **how)
        summary = asyncio.run(story)
    except RecollectError as exc:
        console.print(f"[bold red]the demo failed:[/] {exc.message}", soft_wrap=True)
        raise typer.Exit(1) from exc
    if as_json:
        typer.echo(json.dumps(summary))


@contextmanager
def _progress(title: str, total: int | None) -> Iterator[Callable[..., None]]:
    """A progress bar; the yielded function advances it by one, or shows the text that it is given."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=total)

        def advance(detail: str | None = None) -> None:
            if detail is None:
                progress.advance(bar)
            else:
                progress.update(bar, description=f"{title}: {detail}"[:90])

        yield advance
