"""Estimators of credit against broadcast: the seed model trained on dialogues, three seeds each, the same held-out tasks and seeds for all.

Every run makes as many rollouts an iteration: of `local` some are re-rolled from an intermediate memory.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure
from benchmarks.scale import scaled
from recollect.model import Frozen
from recollect.policy import Policy
from recollect.registry import Registry
from recollect.settings import AgentSettings, EmbedderSettings, EngineSettings, Settings
from recollect.settings_read import parse
from server.agents.registry import build_agents
from server.engines.base import Engine
from server.engines.child import VllmChild
from trainer.config import TrainConfig
from trainer.environments.generated import dialogue_task
from trainer.environments.tasks import Task
from trainer.evaluate import Evaluation, evaluate, mean, paired_difference
from trainer.inputs import opened_store
from trainer.loop import train
from trainer.rollout import Rollouts

SEEDS = 3
ALIAS, MAX_TOKENS = "memory", 64
BASELINE = "broadcast"
ROLLOUTS = 8
"""Of a task in an iteration."""
REROLLED = 3
"""Of these, the ones that `local` makes from an intermediate memory."""
GAIN = {"rewards": {"information_gain": 1.0}}
ROWS: Mapping[str, dict[str, Any]] = {
    BASELINE: {},
    "broadcast over std": {"credit": {"scale_by_std": True}},
    "broadcast of information gain": GAIN,
    "step_groups": GAIN | {"credit": {"use": "step_groups"}},
    "evidence": {"credit": {"use": "evidence"}},
    "evidence, cited": {"credit": {"use": "evidence", "anchor": "cited"}},
    "local": {"credit": {"use": "local", "rerolls": REROLLED}, "group_size": ROLLOUTS - REROLLED},
}
"""What each row sets. The third tells what a reward of its own does from what its credit does."""


KEPT = Path(".recollect") / "credit"
"""Where the runs that are done lie, by their configuration: the benchmark takes an hour and more, and goes on where it was broken off."""


class Trained(Frozen):
    """A run: its held-out evaluation, its seconds, and what its groups came to."""

    evaluation: Evaluation
    seconds: float
    figures: dict[str, float]


async def run() -> list[Figure]:
    """Train and measure every row under every seed, in turns of seeds, so that an interrupted run has whole comparisons.

    What an earlier call left under `.recollect/credit` is not made again; delete it after a change of the code.
    """
    seeds, tasks = range(scaled(SEEDS)), [dialogue_task(f"credit-{i}", "held_out") for i in range(scaled(100, 4))]
    found: dict[str, list[Trained]] = {name: [] for name in ROWS}
    with tempfile.TemporaryDirectory() as folder:
        engine = VllmChild(EngineSettings(), Path(folder))
        await engine.start()
        try:
            await engine.ready(600)
            before = await _measured(engine, Path(folder) / "base", Policy(base=engine.base), tasks)
            for seed in seeds:
                for name, own in ROWS.items():
                    config = _config(seed, own)
                    file = KEPT / f"{seed}-{name.replace(' ', '-')}-{sha256(config.model_dump_json().encode()).hexdigest()[:12]}.json"
                    if file.is_file():
                        done = Trained.model_validate_json(file.read_bytes())
                    else:
                        done = await _trained(engine, Path(folder) / file.stem, config, tasks)
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_text(done.model_dump_json() + "\n", "utf-8")
                    found[name].append(done)
                    print(f"  seed {seed}, {name}: {mean(done.evaluation.sampled):.3f}, {_told(done)}", file=sys.stderr, flush=True)
        finally:
            await engine.close()
    figures = [Figure("held-out accuracy of the base", f"{mean(before.sampled):.3f}, greedy {mean(before.greedy):.3f}")]
    for name, runs in found.items():
        figures.append(Figure(f"{name}: accuracy by seed", _accuracies(runs)))
        if name != BASELINE:
            figures += [
                Figure(f"{name}: less {BASELINE}, seed {seed}", _difference([found[BASELINE][seed]], [one]))
                for seed, one in enumerate(runs)
            ]
            figures.append(Figure(f"{name}: less {BASELINE}, mean over seeds", _difference(found[BASELINE], runs), "above 0"))
    return figures


def _config(seed: int, own: Mapping[str, Any]) -> TrainConfig:
    """Dialogues alone; half the iterations of a run by default, where the estimators still differ."""
    common = {
        "seed": seed,
        "iterations": scaled(12, 2),
        "tasks_per_iteration": scaled(16, 4),
        "group_size": ROLLOUTS,
        "generated_only": True,
        "generated_tasks": 256,
        "reading_share": 0.0,
        "held_out_tasks": 2,
        "samples_per_task": 1,
        "publish": "always",
    }
    return parse(TrainConfig, common | dict(own))


async def _trained(engine: Engine, home: Path, config: TrainConfig, tasks: Sequence[Task]) -> Trained:
    began = time.perf_counter()
    result = await train(config, _settings(home), engine)
    seconds = time.perf_counter() - began
    policy = Policy(base=engine.base, adapter=ALIAS, version=result.version)
    await engine.load_adapter(policy, str(Registry(home / "adapters").path(ALIAS, result.version or 1).resolve()))
    try:
        evaluation = await _measured(engine, home, policy, tasks)
    finally:
        await engine.unload_adapter(policy)
    names = sorted({name for row in result.iterations for name in row if name.startswith(("groups", "credit/", "failed", "advantage/"))})
    figures = {name: mean([row.get(name) for row in result.iterations]) or 0.0 for name in names}
    return Trained(evaluation=evaluation, seconds=seconds, figures=figures)


async def _measured(engine: Engine, home: Path, policy: Policy, tasks: Sequence[Task]) -> Evaluation:
    """Four sampled answers a task and a greedy one, with the same seeds for every policy."""
    settings = _settings(home)
    agents = build_agents(settings.agents, settings.prompt_pack)
    async with opened_store(None, settings) as memory:
        return await evaluate(
            Rollouts(engine, memory, agents), tasks, policy, samples_per_task=4, temperature=1.0, max_tokens=MAX_TOKENS, seed=0
        )


def _settings(home: Path) -> Settings:
    return Settings(home=home, agents=AgentSettings(writing="operations"), embedder=EmbedderSettings())


def _accuracies(runs: Sequence[Trained]) -> str:
    sampled = ", ".join(f"{mean(one.evaluation.sampled):.3f}" for one in runs)
    greedy = ", ".join(f"{mean(one.evaluation.greedy):.2f}" for one in runs)
    return f"{sampled}; greedy {greedy}; {sum(one.seconds for one in runs) / len(runs):.0f} s a run"


def _difference(before: Sequence[Trained], after: Sequence[Trained]) -> str:
    """Paired by task, each task's accuracy its mean over the seeds."""
    found = paired_difference(_by_task(before), _by_task(after))
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]" if found else "no task was scored in both"


def _by_task(runs: Sequence[Trained]) -> list[float | None]:
    return [mean(of_task) for of_task in zip(*(one.evaluation.sampled for one in runs), strict=True)]


def _told(done: Trained) -> str:
    return f"{done.seconds:.0f} s; " + ", ".join(f"{name} {value:.3g}" for name, value in done.figures.items() if value)
