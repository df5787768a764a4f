"""`recollect nightly`: one night from cron, with one line of output and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from recollect.invocation import Invocation
from recollect.settings_read import parse
from trainer.cli import SECTIONS, section_of, shown, training_config
from trainer.inputs import NothingToDo
from trainer.nightly import DEFAULTS, NOTHING, Night, estimate, new_tasks, waits_for_canary
from trainer.nightly import nightly as night
from trainer.nightly_settings import NightlySettings
from trainer.progress import Listener, silent
from trainer.ranks import led
from trainer.resuming import run_folders, unfinished_ids


@led
def nightly(
    ctx: typer.Context,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Of the training configuration or the settings.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of the training configuration.")] = None,
    window: Annotated[str, typer.Option(help="When it may run, in local time, such as 23:00-05:30; default: at any time.")] = "",
    max_minutes: Annotated[float, typer.Option(help="Be done within so many minutes; 0: no limit but the window's end.")] = 0.0,
    nice: Annotated[int, typer.Option(help="By how much to give way to other processes.")] = 10,
    min_tasks: Annotated[int, typer.Option(help="New tasks of the log without which it does not begin.")] = 8,
    engine_url: Annotated[
        list[str] | None,
        typer.Option(help="An engine; may be given again. Default: those of the server running on this home."),
    ] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Tell what there is to learn from and what it would cost, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON in place of the line.")] = False,
) -> None:
    """Learn from what is new in the log, and publish only what is better for certain. Goes on with a run that was interrupted.

    Exit 0: published; 3: nothing to do; 4: not good enough, in quarantine, the old version answers on; 1: failed.
    """
    given = overrides or []
    invocation: Invocation = ctx.obj or Invocation()
    settings = invocation.settings(text for text in given if section_of(text) in SECTIONS)
    chosen = training_config(config, [text for text in given if section_of(text) not in SECTIONS], defaults=DEFAULTS)
    when = parse(NightlySettings, {"window": window, "max_minutes": max_minutes, "nice": nice, "min_tasks": min_tasks})
    if dry:
        home = settings.home.resolve()
        reports = [json.loads(folder.report.read_text("utf-8")) for folder in run_folders(home) if folder.finished]
        plan: dict[str, Any] = {"resumes": (unfinished_ids(home) or [None])[-1], **estimate(chosen, reports)}
        try:
            if (waits := waits_for_canary(settings, chosen.policy or settings.agents.policy)) is not None:
                raise NothingToDo(f"nothing to do: {waits}")
            plan["new_tasks"] = new_tasks(chosen, settings, when)[1]
        except NothingToDo as exc:
            typer.echo(exc.message)
            raise typer.Exit(NOTHING) from exc
        typer.echo(json.dumps(plan, indent=1) if as_json else "\n".join(f"{name}: {value}" for name, value in plan.items()))
        return
    done = night(chosen, settings, when, engine_urls=engine_url or (), listening=_shown_to_people)
    typer.echo(_report(done) if as_json else f"recollect nightly: {done.said}")
    raise typer.Exit(done.code)


def _report(done: Night) -> str:
    from trainer.report import report

    whole = report(done.result) if done.result else {}
    return json.dumps({"exit": done.code, "said": done.said, "resumed": done.resumed, **whole}, indent=1)


@contextmanager
def _shown_to_people() -> Generator[Listener]:
    """Bars in a terminal; nothing for cron, which would mail them."""
    if not sys.stderr.isatty():
        yield silent
        return
    with shown() as listen:
        yield listen
