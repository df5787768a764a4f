"""`recollect seed build` and `recollect seed check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recollect.settings import SEED_MODEL

app = typer.Typer(help="The bundled seed model: build it again, or check its files.", no_args_is_help=True)


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="Where the model goes.")] = SEED_MODEL,
    work: Annotated[Path | None, typer.Option(help="Where checkpoints go; default: OUT/../seed-build. A build resumes there.")] = None,
    miniature: Annotated[bool, typer.Option(help="A build of minutes that only shows that the pipeline works.")] = False,
    per_skill: Annotated[int, typer.Option(help="Held-out samples a skill for the card.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train the seed model from scratch: up to two hours on two cores, resumable, the same weights for the same recipe."""
    from trainer.seed import build as building
    from trainer.seed import card, evaluate

    recipe = building.MINIATURE if miniature else building.Recipe()
    columns = (TextColumn("building the seed model"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task("build", total=recipe.steps, loss=0.0)

        def on_step(step: int, loss: float) -> None:
            progress.update(bar, completed=step, loss=loss)

        figures = building.build(recipe, out, work=work or out.parent / f"{out.name}-build", on_step=on_step)
    greedy = evaluate.skills(out, per_skill=per_skill)
    sampled = evaluate.skills(out, per_skill=per_skill, temperature=1.0)
    card.write(out, recipe, figures, greedy, sampled, per_skill)
    typer.echo(json.dumps({**figures, "greedy": greedy, "sampled": sampled}, indent=None if as_json else 1))


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="The model's folder.")] = SEED_MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare the sha256 of every file with the manifest."""
    from trainer.seed import card

    wrong = card.check(folder)
    typer.echo(
        json.dumps({"folder": str(folder), "differing": wrong})
        if as_json
        else (f"differ: {', '.join(wrong)}" if wrong else "all files are as built")
    )
    raise typer.Exit(1 if wrong else 0)
