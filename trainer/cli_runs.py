"""`recollect runs list|rebuild|give-back`, and the replay of `recollect train --replay`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from recollect.invocation import Invocation
from recollect.settings import Settings
from recollect.train_lock import exclusive
from trainer.abandoning import abandon
from trainer.replaying import Compared, compared, replayed
from trainer.resuming import configuration, found, run_folders, saved_config, why_not
from trainer.running_engine import running_engine

DIFFERS = 1
app = typer.Typer(help="Training runs: list them, rebuild their batches, give back what a dead one took.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run, as `recollect runs list` names it.")]


@app.command("list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Every run, the oldest first: what came of it, or how far it got."""
    home = _settings(ctx).home.resolve()
    rows: list[dict[str, Any]] = []
    for folder in run_folders(home):
        report = json.loads(folder.report.read_text("utf-8")) if folder.finished else {}
        outcome = f"published v{report['version']}" if report.get("version") else report.get("refusal")
        rows.append(
            {
                "run": folder.id,
                "iterations": len(folder.written_metrics()),
                "state": "finished" if folder.finished else "cannot go on" if why_not(home, folder) else "can go on",
                "outcome": outcome or why_not(home, folder) or f"recollect train --resume {folder.id}",
            }
        )
    _show(rows, as_json=as_json, empty="no runs yet: recollect train makes them")


@app.command()
def rebuild(ctx: typer.Context, run: RunId, as_json: AsJson = False) -> None:
    """Make the batch of every update again from the recorded rollouts. Exit 0: all are the run's own; 1: some differ, or were forgotten."""
    settings = _settings(ctx)
    rows = list(compared(found(settings.home.resolve(), run), settings))
    _show([row.figures() for row in rows], as_json=as_json, empty=f"run {run} has made no update")
    _exit(rows)


@app.command("give-back")
def give_back(
    ctx: typer.Context,
    run: RunId,
    engine_url: Annotated[
        list[str] | None,
        typer.Option(help="An engine; may be given again. Default: those of the server running on this home."),
    ] = None,
) -> None:
    """A run that died will not be resumed: what it took of the log is new again."""
    settings = _settings(ctx)
    folder = found(settings.home.resolve(), run)
    with exclusive(settings.home):
        asyncio.run(_abandon(settings, folder.id, engine_url or ()))
    typer.echo(f"run {run}: what it took of the log is new again")


def replay(settings: Settings, run: str, *, as_json: bool) -> None:
    """Make every update of a run again and tell batches and weights. Exits with 1 if a batch is not that of the run."""
    folder = found(settings.home.resolve(), run)
    done = list(replayed(folder, settings))
    recorded = json.loads(folder.report.read_text("utf-8"))["weights_sha256"] if folder.finished else None
    last = done[-1][1] if done else None
    rows = [row.figures() | {"weights_sha256": weights} for row, weights in done]
    _show(rows, as_json=as_json, empty=f"run {run} has made no update")
    same = "the run is not finished" if recorded is None else "as the run's own" if recorded == last else f"the run's own: {recorded}"
    Console(stderr=True, highlight=False).print(f"weights {last}, {same}")
    one_thread = configuration(saved_config(folder)).optimisation.threads == 1
    if len(done) < len(folder.written_metrics()) or (one_thread and recorded is not None and recorded != last):
        raise typer.Exit(DIFFERS)
    _exit([row for row, _ in done])


async def _abandon(settings: Settings, run: str, engine_urls: Sequence[str]) -> None:
    home = settings.home.resolve()
    engine = running_engine(settings, engine_urls)
    try:
        await engine.health()
        await abandon(home, found(home, run), engine)
    finally:
        await engine.close()


def _settings(ctx: typer.Context) -> Settings:
    invocation: Invocation = ctx.obj or Invocation()
    return invocation.settings()


def _exit(rows: Iterable[Compared]) -> None:
    if not all(row.same for row in rows):
        raise typer.Exit(DIFFERS)


def _show(rows: list[dict[str, Any]], *, as_json: bool, empty: str) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        typer.echo(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console(highlight=False).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = "-" if value is None else str(value)
    return text[:16] if len(text) == 64 else text
