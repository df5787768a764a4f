"""`recollect eval`: agents on a suite of tasks, evaluations compared, and retrieval alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from typer.core import TyperGroup

from memory_store.cli_eval import retrieval
from recollect.cli_screen import Screen
from recollect.invocation import Invocation
from trainer.suites.contender import BASE, CURRENT
from trainer.suites.results import Result, ResultFolder
from trainer.suites.suite import Suite, known_suites, load_suite

SUITE = "SUITE"
INTERRUPTED = 130


class SuiteGroup(TyperGroup):
    """Takes a first word that names no command as the name of a suite."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, args if args and args[0] in self.commands else [SUITE, *args])


HELP = f"""Measure agents on a suite of tasks (recollect eval SUITE --help), compare two evaluations, or measure retrieval alone.

Suites: {", ".join(known_suites())}, or a YAML file."""
app = typer.Typer(cls=SuiteGroup, no_args_is_help=True, help=HELP)
app.command()(retrieval)


@app.command(SUITE)
def suite(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SUITE", help="The name of a suite, or its YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings, such as embedder.kind=hash.")] = None,
    preset: Annotated[str | None, typer.Option(help="Of the suite, where it has some.")] = None,
    agent: Annotated[str | None, typer.Option(help="Who answers; default: the agent that each task names.")] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="With which weights: base, current or NAME@vN. Several are compared with the first.")
    ] = None,
    baseline: Annotated[list[str] | None, typer.Option(help="An agent to answer the same tasks with the first policy.")] = None,
    no_baselines: Annotated[bool, typer.Option("--no-baselines", help="Leave the suite's baselines out.")] = False,
    repeats: Annotated[int | None, typer.Option(min=1, help="Answers a task.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Tasks of each set, at most.")] = None,
    data: Annotated[Path, typer.Option(help="The folder in which the suite's files lie, or its only file.")] = Path(),
    engine_url: Annotated[str | None, typer.Option(help="The engine; default: the running server's, else one is started.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Runs at once.")] = 64,
    out: Annotated[Path | None, typer.Option(help="Where results and reports go; default: a folder in the home.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Run a suite and report avg@k with intervals, tokens and latency. The same command goes on where it was stopped.

    Exit 0: done; 1: not begun, or every run failed; 130: stopped, what was done is kept.
    """
    # Imported here: the store and the embedders take a moment, and wrong usage is told before.
    from trainer.suites.command import Plan, default_folder
    from trainer.suites.report import show, write_reports
    from trainer.suites.sheets import sheets
    from trainer.suites.summary import summarise

    chosen = _changed(load_suite(name, preset), agent, policy, () if no_baselines else baseline, repeats)
    invocation: Invocation = ctx.obj or Invocation()
    settings = invocation.settings([*chosen.overrides(), *(overrides or [])])
    plan = Plan.of(chosen, settings, data=data, limit=limit)
    folder = ResultFolder(out or default_folder(plan))
    if CURRENT in chosen.policies and all(one.policy == BASE for one in plan.contenders):
        _stderr().print("no version of the policy is published: the base model alone is measured")
    whole = _run(plan, folder, engine_url, concurrency)
    summary = summarise(folder)
    write_reports(folder, summary)
    if as_json:
        typer.echo(summary.model_dump_json(indent=1))
    else:
        show(sheets(summary), _wide())
    _stderr().print(f"{summary.num_runs} of {summary.num_total} runs, {summary.num_failed} failed; reports: {folder.path}", markup=False)
    if not whole:
        raise typer.Exit(INTERRUPTED)
    if summary.num_runs and summary.num_failed == summary.num_runs:
        first = next(result.error for result in folder.results())
        _stderr().print(f"every run failed; the first: {first}", markup=False)
        raise typer.Exit(1)


@app.command()
def compare(
    before: Annotated[str, typer.Argument(help="A folder of an evaluation, or FOLDER#AGENT/POLICY for one of its columns.")],
    after: Annotated[str, typer.Argument(help="Another, or another column of the same.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Paired differences of two evaluations, with 95 % intervals, by type and length, of scores, tokens and latency."""
    from trainer.suites.report import show
    from trainer.suites.sheets import difference_sheet
    from trainer.suites.summary import compared

    folders, names = zip(*(_named(text) for text in (before, after)), strict=True)
    found = compared(*folders, names=names)
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=1))
    else:
        show([difference_sheet(found)], _wide())


def _changed(
    suite: Suite, agent: str | None, policies: Sequence[str] | None, baselines: Sequence[str] | None, repeats: int | None
) -> Suite:
    """The suite as the command line changes it; what is None stays."""
    given = {"agent": agent, "policies": policies, "baselines": baselines, "repeats": repeats}
    return Suite.model_validate({**suite.model_dump(), **{key: value for key, value in given.items() if value is not None}})


def _run(plan: Any, folder: ResultFolder, url: str | None, concurrency: int) -> bool:
    """Make the runs, with a progress bar. False if they were stopped by Ctrl-C."""
    from trainer.suites.command import carry_out

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=_stderr()) as progress:
        bar = progress.add_task("waiting for the engine", total=None, note="")
        failed = 0

        def begin(total: int, done: int) -> None:
            progress.update(bar, description=plan.suite.name, total=total, completed=done)

        def told(result: Result) -> None:
            nonlocal failed
            failed += result.error is not None
            progress.update(bar, advance=1, note=f"{failed} failed" if failed else "")

        try:
            asyncio.run(carry_out(plan, folder, url=url, concurrency=concurrency, told=told, begin=begin))
        except KeyboardInterrupt:
            progress.console.print("stopped; the same command goes on from here")
            return False
    return True


def _named(text: str) -> tuple[ResultFolder, str]:
    place, _, name = text.partition("#")
    return ResultFolder.existing(Path(place)), name


def _stderr() -> Console:
    return Screen(stderr=True, highlight=False)


def _wide() -> Console:
    return Screen(width=None if Screen().is_terminal else 240)
