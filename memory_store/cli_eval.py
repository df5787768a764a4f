"""`recollect eval retrieval FILE`: how well the memory store finds what answers a question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from memory_store.embedders.choose import choose
from memory_store.evaluate.chats import read_chats
from memory_store.evaluate.conversations import Conversation
from memory_store.evaluate.files import read
from memory_store.evaluate.report import table
from memory_store.evaluate.retrieval import Evaluation, evaluate
from recollect.cli_screen import Screen
from recollect.invocation import Invocation
from recollect.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Measure parts of Recollect on public data.")


@app.callback()
def measure() -> None:
    """Measure parts of Recollect on public data."""


@app.command()
def retrieval(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A JSON file in the LoCoMo or the LongMemEval format.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings, such as embedder.kind=none.")] = None,
    context: Annotated[bool, typer.Option(help="Score each turn with the turns around it, too.")] = True,
    times: Annotated[
        list[int] | None, typer.Option(min=0, help="Share each namespace with so many times as many turns of the other conversations.")
    ] = None,
    distractors: Annotated[
        list[Path] | None, typer.Option(help="A file with more of those: JSON of the same formats, or CSV of Synthetic-Persona-Chat.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table, with --times a line for each.")] = False,
) -> None:
    """Store every turn of every conversation as a memory, search for every question, and print how much evidence is found."""
    invocation: Invocation = ctx.obj or Invocation()
    settings = invocation.settings(overrides or [])
    for evaluation in asyncio.run(_retrieval(file, settings, distractors or [], times or [0], context=context)):
        if as_json:
            typer.echo(evaluation.model_dump_json(indent=None if times else 2))
        else:
            width = None if Screen().is_terminal else 120
            Screen(width=width).print(table(evaluation))


async def _retrieval(
    file: Path, settings: Settings, distractors: Sequence[Path], times: Sequence[int], *, context: bool
) -> list[Evaluation]:
    corpus = await asyncio.to_thread(read, file)
    others = [conversation for more in distractors for conversation in await asyncio.to_thread(_others, more)]
    # A conversation's name comes from the file: neither markup nor terminal codes in it count.
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Screen(stderr=True)) as progress:
        task = progress.add_task("loading the embedder", total=None)
        embedder = await choose(settings.embedder, settings.home)

        def advance(name: str, done: int, of: int) -> None:
            progress.update(task, description=f"conversation {name}" if name else "done", completed=done, total=of)

        return await evaluate(corpus, embedder, advance, context=context, others=others, times=times)


def _others(file: Path) -> Sequence[Conversation]:
    return read_chats(file) if file.suffix == ".csv" else read(file).conversations
