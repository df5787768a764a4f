"""`recollect eval retrieval FILE`: how well the memory store finds what answers a question."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from memory_store.embedders.choose import choose
from memory_store.evaluate.conversations import read
from memory_store.evaluate.report import table
from memory_store.evaluate.retrieval import Evaluation, evaluate
from recollect.errors import RecollectError
from recollect.settings import load

app = typer.Typer(no_args_is_help=True, help="Measure parts of Recollect on public data.")


@app.callback()
def measure() -> None:
    """Measure parts of Recollect on public data."""


@app.command()
def retrieval(
    file: Annotated[Path, typer.Argument(help="a JSON file in the LoCoMo or the LongMemEval format")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
    config: Annotated[Path | None, typer.Option(help="a settings file")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, such as embedder.kind=none")] = None,
) -> None:
    """Store every turn of every conversation as a memory, search for every question, and print how much evidence is found."""
    try:
        evaluation = asyncio.run(_retrieval(file, config, overrides or []))
    except RecollectError as exc:
        typer.echo(f"error: {exc}", err=True)
        raise typer.Exit(2) from exc
    if as_json:
        typer.echo(evaluation.model_dump_json(indent=2))
    else:
        width = None if Console().is_terminal else 120
        Console(width=width).print(table(evaluation))


async def _retrieval(file: Path, config: Path | None, overrides: list[str]) -> Evaluation:
    corpus = await asyncio.to_thread(read, file)
    settings = await asyncio.to_thread(load, config, overrides, os.environ)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("loading the embedder", total=None)
        embedder = await choose(settings.embedder, settings.home)

        def advance(name: str, done: int, of: int) -> None:
            progress.update(task, description=f"conversation {name}" if name else "done", completed=done, total=of)

        return await evaluate(corpus, embedder, advance)
