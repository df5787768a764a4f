"""`recollect train`: learn from the log, show how it goes, publish a better adapter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from recollect.errors import ConfigurationError
from recollect.invocation import Invocation
from recollect.settings import Settings, override, parse, read_file
from recollect.train_lock import exclusive
from server.engines.vllm import VllmEngine
from trainer.config import TrainConfig
from trainer.dry_run import check_needs, dry_run
from trainer.inputs import LogInput, NothingToDo, check_settings, read_logged, tasks_of_log
from trainer.progress import Listener, Progress

NOTHING_TO_DO = 3
SECTIONS = frozenset(Settings.model_fields)
TITLES = {"before": "held out, before", "train": "training", "after": "held out, after"}


def train(
    ctx: typer.Context,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Of the training configuration or the settings.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of the training configuration.")] = None,
    engine_url: Annotated[str | None, typer.Option(help="The engine; default: that of the server running on this home.")] = None,
    generated_only: Annotated[bool, typer.Option("--generated-only", help="Train on generated tasks alone, without the log.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Tell what the run would do and what it needs, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Learn from the log and publish a better adapter. Exit 0: done; 1: failed; 3: the log offers nothing to learn from."""
    given = overrides or []
    invocation: Invocation = ctx.obj or Invocation()
    settings = invocation.settings(text for text in given if _section(text) in SECTIONS)
    chosen = training_config(config, [text for text in given if _section(text) not in SECTIONS], generated_only=generated_only)
    if dry:
        _tell(dry_run(chosen, settings), as_json=as_json)
        return
    check_settings(chosen, settings)
    check_needs(chosen, settings)
    model = Path(settings.engine.model_path)
    with exclusive(settings.home):
        log = read_logged(settings.home, chosen.policy or settings.agents.policy)
        try:
            tasks_of_log(chosen, settings, log)
        except NothingToDo as exc:
            typer.echo(exc.message, err=True)
            raise typer.Exit(NOTHING_TO_DO) from exc
        url = engine_url or _running_engine(settings.home)
        engine = VllmEngine(url, max_lora_rank=settings.engine.max_lora_rank, model_path=model if model.is_dir() else None)
        asyncio.run(_train(chosen, settings, engine, log, as_json=as_json))


def training_config(file: Path | None, overrides: Sequence[str], *, generated_only: bool = False) -> TrainConfig:
    """The configuration of a file with `key=value` overrides. Raises ConfigurationError."""
    values = read_file(file) if file else {}
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
            typer.echo("\n".join([f"{name}:" if lines else f"{name}: none", *(f"  {line}" for line in lines)]))
        else:
            typer.echo(f"{name}: {lines}")


async def _train(config: TrainConfig, settings: Settings, engine: VllmEngine, log: LogInput, *, as_json: bool) -> None:
    # Imported here: torch takes seconds, and that there is nothing to do is told before.
    from trainer.loop import train as run
    from trainer.report import report, table

    console = Console(stderr=True, highlight=False)
    try:
        with _shown(console) as listen:
            result = await run(config, settings, engine, log=log, listen=listen)
    finally:
        await engine.close()
    if as_json:
        print(json.dumps(report(result), indent=1))
        return
    Console().print(table(result))
    outcome = f"published {result.policy}@v{result.version}" if result.version else f"not published: {result.refusal}"
    console.print(f"{outcome}; metrics, tasks and figure: {result.run.path}")


@contextmanager
def _shown(console: Console) -> Generator[Listener]:
    """Progress bars on stderr, one a stage."""
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


def _section(override: str) -> str:
    return override.partition("=")[0].partition(".")[0]


def _running_engine(home: Path) -> str:
    """The engine's URL, as the running server wrote it down."""
    try:
        url = json.loads((home / "server.json").read_text("utf-8")).get("engine_url")
    except (FileNotFoundError, ValueError):
        url = None
    if not url:
        raise ConfigurationError(
            f"no server with an engine runs on home {home}; start one (recollect serve) or give --engine-url", param="engine-url"
        )
    return str(url)
