"""`recollect learn`: does training help? Three seeds on generated tasks, each compared with the base on the same held-out tasks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from recollect.invocation import Invocation
from recollect.policy import Policy
from recollect.registry import Registry
from recollect.settings import AgentSettings, EmbedderSettings, EngineSettings, Settings

ALIAS = "memory"
MAX_TOKENS = 64
console = Console(stderr=True, highlight=False)


class Row(NamedTuple):
    """One held-out set under one seed: accuracy before and after, and the paired difference with its 95 % interval."""

    name: str
    seed: int
    tasks: int
    before: float
    after: float
    greedy_before: float
    greedy_after: float
    mean: float
    low: float
    high: float


def main(
    ctx: typer.Context,
    seeds: Annotated[int, typer.Option(min=1, help="How many training runs.")] = 3,
    held_out: Annotated[int, typer.Option(min=2, help="Held-out tasks of each set.")] = 100,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Of the training configuration.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Train the seed model with several seeds and compare each with the base. Exit 1 if one seed does not gain for certain.

    The runs go to `recollect --home`, or to .recollect/learn-<time>.
    """
    place = (ctx.obj or Invocation()).home or Path(".recollect") / f"learn-{time.strftime('%Y%m%d-%H%M%S')}"
    rows = asyncio.run(_learn(place, seeds, held_out, overrides or []))
    if as_json:
        typer.echo(json.dumps([row._asdict() for row in rows]))
    else:
        Console(width=None if Console().is_terminal else 120).print(_table(rows))
    raise typer.Exit(0 if all(row.low > 0 for row in rows if row.name == "all sets") else 1)


async def _learn(home: Path, seeds: int, held_out: int, overrides: list[str]) -> list[Row]:
    # Imported here: torch takes seconds, and wrong usage is told before.
    from server.engines.child import VllmChild
    from trainer.cli import training_config
    from trainer.loop import train

    (home / "logs").mkdir(parents=True, exist_ok=True)
    engine = VllmChild(EngineSettings(), home / "logs")
    console.print("Starting vLLM on the seed model ...")
    await engine.start()
    rows: list[Row] = []
    try:
        await engine.ready(600)
        sets = _held_out(held_out)
        settings = Settings(home=home, agents=AgentSettings(writing="operations"), embedder=EmbedderSettings())
        before = await _measure(engine, settings, Policy(base=engine.base), sets, "base")
        for seed in range(seeds):
            own = settings.model_copy(update={"home": home / f"seed-{seed}"})
            config = training_config(None, [f"seed={seed}", "held_out_tasks=8", "samples_per_task=1", "publish=always", *overrides])
            columns = (TextColumn(f"seed {seed}: {{task.description}}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            with Progress(*columns, console=console) as progress:
                bar = progress.add_task("training", total=config.iterations)

                def listen(event: Any, progress: Progress = progress, bar: Any = bar) -> None:
                    if event.stage == "train":
                        progress.update(bar, completed=event.done)

                result = await train(config.model_copy(update={"generated_only": True}), own, engine, listen=listen)
            policy = Policy(base=engine.base, adapter=ALIAS, version=result.version)
            await engine.load_adapter(policy, str(Registry(own.home / "adapters").path(ALIAS, result.version or 1).resolve()))
            after = await _measure(engine, settings, policy, sets, f"seed {seed}")
            await engine.unload_adapter(policy)
            rows += _rows(seed, before, after)
    finally:
        await engine.close()
    (home / "learn.json").write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    return rows


def _held_out(count: int) -> dict[str, list[Any]]:
    """The three held-out sets: reading at the trained length, at twice the length, and dialogue memory."""
    from tokenizers import Tokenizer

    from recollect.settings import SEED_MODEL
    from trainer.environments.generated import dialogue_task, reading_task

    tokenizer = Tokenizer.from_file(str(SEED_MODEL / "tokenizer.json"))

    def length(text: str) -> int:
        return len(tokenizer.encode(text).ids)

    return {
        "reading, 3 sections": [reading_task(f"learn-{i}", "held_out", length, num_sections=3) for i in range(count)],
        "reading, 6 sections": [reading_task(f"learn-{i}", "held_out", length, num_sections=6) for i in range(count)],
        "dialogue memory": [dialogue_task(f"learn-{i}", "held_out") for i in range(count)],
    }


async def _measure(engine: Any, settings: Settings, policy: Policy, sets: Mapping[str, list[Any]], who: str) -> dict[str, Any]:
    """An evaluation of each set: four sampled answers a task and a greedy one."""
    from server.agents.registry import build_agents
    from trainer.evaluate import evaluate
    from trainer.inputs import opened_store
    from trainer.rollout import Rollouts

    agents = build_agents(settings.agents, settings.prompt_pack, [settings.home / "agents"])
    found: dict[str, Any] = {}
    async with opened_store(None, settings) as memory:
        for name, tasks in sets.items():
            console.print(f"{who}: measuring {name} ({len(tasks)} tasks)")
            found[name] = await evaluate(
                Rollouts(engine, memory, agents), tasks, policy, samples_per_task=4, temperature=1.0, max_tokens=MAX_TOKENS, seed=0
            )
    return found


def _rows(seed: int, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Row]:
    rows = [_row(name, seed, [before[name]], [after[name]]) for name in before]
    return [*rows, _row("all sets", seed, list(before.values()), list(after.values()))]


def _row(name: str, seed: int, before: list[Any], after: list[Any]) -> Row:
    from trainer.evaluate import mean, paired_difference

    sampled = [list(chain.from_iterable(one.sampled for one in side)) for side in (before, after)]
    greedy = [mean(list(chain.from_iterable(one.greedy for one in side))) or 0.0 for side in (before, after)]
    difference = paired_difference(sampled[0], sampled[1], seed=seed)
    if difference is None:
        raise RuntimeError(f"{name}: no task was scored both before and after")
    return Row(
        name=name,
        seed=seed,
        tasks=difference.num_pairs,
        before=mean(sampled[0]) or 0.0,
        after=mean(sampled[1]) or 0.0,
        greedy_before=greedy[0],
        greedy_after=greedy[1],
        mean=difference.mean,
        low=difference.low,
        high=difference.high,
    )


def _table(rows: list[Row]) -> Table:
    table = Table("held-out set", "seed", "tasks", "before", "after", "greedy", "difference", "95 % interval", title="recollect learn")
    for row in sorted(rows, key=lambda r: (r.name == "all sets", r.name)):
        table.add_row(
            *(row.name, str(row.seed), str(row.tasks), f"{row.before:.3f}", f"{row.after:.3f}"),
            *(f"{row.greedy_before:.2f} → {row.greedy_after:.2f}", f"{row.mean:+.3f}", f"{row.low:+.3f} to {row.high:+.3f}"),
        )
    return table
