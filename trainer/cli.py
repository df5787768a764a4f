"""`recollect train`: learn from the log, show how it goes, publish a better adapter."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from recollect.cli_adapters import parsed
from recollect.errors import ConfigurationError, InvalidRequest
from recollect.invocation import Invocation
from recollect.memory import LOCAL_TENANT
from recollect.registry import Registry
from recollect.settings import Settings
from recollect.settings_read import override, parse, read_file
from recollect.train_lock import exclusive
from trainer.abandoning import blank_forgotten
from trainer.config import TrainConfig
from trainer.dry_run import check_needs, dry_run
from trainer.inputs import NothingToDo, check_settings, read_logged, tasks_of_log
from trainer.progress import Listener, Progress
from trainer.ranks import led
from trainer.replacement import configuration_of
from trainer.result import TrainResult
from trainer.resuming import Unfinished, unfinished
from trainer.running_engine import run_here

NOTHING_TO_DO = 3
SECTIONS = frozenset(Settings.model_fields)
TITLES = {"before": "held out, before", "train": "training", "after": "held out, after"}


@led
def train(
    ctx: typer.Context,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Of the training configuration or the settings.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of the training configuration.")] = None,
    engine_url: Annotated[
        list[str] | None,
        typer.Option(help="An engine; may be given again. Default: those of the server running on this home."),
    ] = None,
    replace: Annotated[
        str | None,
        typer.Option(metavar="POLICY@vN", help="Train what replaces a retired version: as it was, on the log as it is now."),
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run that died, by its id or `last`; it repeats no recorded rollout.")
    ] = None,
    replay: Annotated[
        str | None, typer.Option(metavar="RUN", help="Make the updates of a run again from its recorded rollouts, and end.")
    ] = None,
    generated_only: Annotated[bool, typer.Option("--generated-only", help="Train on generated tasks alone, without the log.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Tell what the run would do and what it needs, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Learn from the log and publish the adapter, unless it is worse (publish=gate: only if it is better for certain, as at night).

    Exit 0: done; 1: failed; 3: the log offers nothing to learn from."""
    given = overrides or []
    invocation: Invocation = ctx.obj or Invocation()
    settings = invocation.settings(text for text in given if section_of(text) in SECTIONS)
    own = [text for text in given if section_of(text) not in SECTIONS]
    if replay is not None:
        from trainer.cli_runs import replay as replayed

        replayed(settings, replay, as_json=as_json)
        return
    version, going_on = None, None
    if resume is not None:
        going_on = _unfinished(settings, resume, own, config, replace, generated_only=generated_only)
        chosen = going_on.config
    elif replace is None:
        chosen = training_config(config, own, generated_only=generated_only)
    else:
        if config is not None:
            raise ConfigurationError("--replace takes the configuration of the version; leave --config out", param="config")
        policy, version = _version(replace)
        values = configuration_of(Registry(settings.home / "adapters"), policy, version).model_dump(mode="json")
        chosen = _overridden(values, own, generated_only=generated_only)
    if dry:
        _tell(dry_run(chosen, settings), as_json=as_json)
        return
    try:
        result = trained(chosen, settings, engine_url or (), replaces=version, resume=going_on)
    except NothingToDo as exc:
        typer.echo(exc.message, err=True)
        raise typer.Exit(NOTHING_TO_DO) from exc
    _show(result, as_json=as_json)


def trained(
    chosen: TrainConfig,
    settings: Settings,
    engine_urls: Sequence[str] = (),
    *,
    replaces: int | None = None,
    resume: Unfinished | None = None,
) -> TrainResult:
    """A run on the settings' home, with bars on stderr. Raises NothingToDo, Conflict if a trainer runs there, and what `train` does."""
    check_settings(chosen, settings)
    check_needs(chosen, settings)
    with exclusive(settings.home):
        blank_forgotten(settings.home)
        log = resume.log if resume else read_logged(settings.home, chosen.policy or settings.agents.policy)
        tasks_of_log(chosen, settings, log)
        return run_here(
            chosen, settings, engine_urls, log, shown, pool=resume.pool if resume else LOCAL_TENANT, replaces=replaces, resume=resume
        )


def _unfinished(
    settings: Settings, run: str, overrides: Sequence[str], config: Path | None, replace: str | None, *, generated_only: bool
) -> Unfinished:
    """The run to go on with. It keeps its configuration: only the judge's key, which no file holds, is given again."""
    keys = [text.partition("=")[2] for text in overrides if text.startswith("judge.api_key=")]
    if config is not None or replace is not None or generated_only or len(keys) != len(overrides):
        raise ConfigurationError(
            "a resumed run keeps its configuration; give --resume alone, and judge.api_key=… if it has a judge",
            param="resume",
        )
    return unfinished(settings.home.resolve(), run, settings, api_key=keys[-1] if keys else "")


def training_config(
    file: Path | None, overrides: Sequence[str], *, generated_only: bool = False, defaults: Mapping[str, Any] | None = None
) -> TrainConfig:
    """The configuration of a file with `key=value` overrides, over `defaults`. Raises ConfigurationError."""
    values = {**deepcopy(dict(defaults or {})), **(read_file(file) if file else {})}
    return _overridden(values, overrides, generated_only=generated_only)


def _overridden(values: dict[str, Any], overrides: Sequence[str], *, generated_only: bool) -> TrainConfig:
    for text in overrides:
        override(TrainConfig, values, text)
    return parse(TrainConfig, values | ({"generated_only": True} if generated_only else {}))


def _tell(plan: Mapping[str, Any], *, as_json: bool) -> None:
    """A line for each fact; lists and mappings indented below their names."""
    if as_json:
        typer.echo(json.dumps(plan, indent=1))
        return
    for name, value in plan.items():
        lines = [f"{key}: {one}" for key, one in value.items()] if isinstance(value, dict) else value
        if isinstance(lines, list):
            typer.echo("\n".join([f"{name}:", *(f"  {line}" for line in lines)]) if lines else "", nl=bool(lines))
        elif lines != "":
            typer.echo(f"{name}: {lines}")


def _show(result: TrainResult, *, as_json: bool) -> None:
    from trainer.report import report, table

    if as_json:
        print(json.dumps(report(result), indent=1))
        return
    Console().print(table(result))
    how = f" as a canary for {result.canary:.0%} of new sessions" if result.canary else ""
    undo = f"undo: recollect adapters rollback {result.policy}"
    outcome = f"published {result.policy}@v{result.version}{how} ({undo})" if result.version else f"not published: {result.refusal}"
    Console(stderr=True, highlight=False).print(f"{outcome}; the report and all figures: {result.run.path}")


@contextmanager
def shown() -> Generator[Listener]:
    """Progress bars on stderr, one a stage."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    with Bars(*columns, console=console) as bars:
        rows = {}

        def listen(progress: Progress) -> None:
            if progress.text:
                console.print(progress.text)
            if progress.stage not in TITLES:
                return
            if progress.stage not in rows:
                rows[progress.stage] = bars.add_task(TITLES[progress.stage], note="")
            bars.update(rows[progress.stage], completed=progress.done, total=progress.total, note=_note(progress))

        yield listen


def _note(progress: Progress) -> str:
    reward = progress.metrics.get("reward")
    return "" if reward is None else f"reward {reward:.3f}, {progress.metrics['calls_per_s']:.0f} calls/s"


def _version(name: str) -> tuple[str, int]:
    policy, version = parsed(name)
    if version is None:
        raise InvalidRequest(f"{name} is the base model, which cannot be retired; name a version, such as {policy}@v1", param="replace")
    return policy, version


def section_of(override: str) -> str:
    """The first word of an override's key."""
    return override.partition("=")[0].partition(".")[0]
