"""`recollect init --nightly`: have a home learn every night, from the user's crontab or a systemd timer."""

from __future__ import annotations

import sys
from datetime import datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recollect.errors import ConfigurationError, InvalidRequest
from recollect.invocation import Invocation
from recollect.schedule import Schedule, scheduler, set_in_crontab, set_in_systemd


class By(StrEnum):
    """What runs it."""

    CRON = "cron"
    SYSTEMD = "systemd"


def init(
    ctx: typer.Context,
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[-- OPTION...]", help="Of `recollect nightly`, such as --max-minutes 60.")
    ] = None,
    nightly: Annotated[bool, typer.Option("--nightly", help="Learn every night.")] = False,
    at: Annotated[str, typer.Option(help="When, in local time.")] = "03:17",
    by: Annotated[By | None, typer.Option(help="What runs it; default: systemd if the user has one, else cron.")] = None,
    show: Annotated[bool, typer.Option("--print", help="Print what would be installed, and change nothing.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take it away again.")] = False,
) -> None:
    """Set up what runs by itself: with --nightly, `recollect nightly` on this home, every night. A second call replaces the first."""
    if not nightly:
        raise InvalidRequest("there is nothing to set up without --nightly", param="nightly")
    schedule = _schedule(ctx, at, options or [])
    chosen = by or scheduler()
    if chosen is None and not show:
        raise ConfigurationError("neither systemd of the user nor crontab is here; print the lines with --print", param="by")
    if show:
        texts = schedule.units() if chosen == By.SYSTEMD else {"crontab": f"{schedule.cron_line()}\n"}
        typer.echo("\n".join(f"# {name}\n{text}" for name, text in texts.items()), nl=False)
        return
    if chosen == By.SYSTEMD:
        where = str(set_in_systemd(schedule, remove=remove))
    else:
        set_in_crontab(schedule, remove=remove)
        where = "the crontab"
    typer.echo(
        f"removed {schedule.name} from {where}" if remove else f"{schedule.name} runs every night at {schedule.at:%H:%M}, from {where}"
    )


def _schedule(ctx: typer.Context, at: str, options: list[str]) -> Schedule:
    invocation: Invocation = ctx.obj or Invocation()
    home = invocation.settings().home.resolve()
    config = [] if invocation.config is None else ["--config", str(invocation.config.resolve())]
    command = [sys.executable, "-m", "recollect", "--home", str(home), *config, "nightly", *options]
    return Schedule(command, Path.cwd(), home, _time(at))


def _time(text: str) -> time:
    try:
        return datetime.strptime(text, "%H:%M").time()
    except ValueError:
        raise InvalidRequest(f"{text!r} is no time of the day; write hours and minutes, such as 03:17", param="at") from None
