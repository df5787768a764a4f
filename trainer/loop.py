"""A training run, from the log to a published version. Reads top to bottom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recollect.manifest import Fingerprint, Manifest
from recollect.memory import LOCAL_TENANT
from recollect.policy import Policy
from recollect.registry import Registry
from recollect.settings import Settings
from recollect.stores import MemoryStore
from recollect.trajectory import TrajectoryGroup
from server.agents.budget import Budget
from server.agents.registry import build_agents
from server.engines.base import Engine, Sampling
from server.engines.fingerprint import fingerprint
from trainer.candidates import Candidates
from trainer.closed_book import answerable, without
from trainer.config import TrainConfig
from trainer.credit import Learning, credit
from trainer.environments.tasks import Task
from trainer.evaluate import Difference, Evaluation, evaluate, paired_difference
from trainer.frozen import frozen_aliases, frozen_policies
from trainer.inputs import (
    LogInput,
    Parent,
    check_engine,
    check_settings,
    nothing_to_do,
    opened_store,
    parent_of,
    read_logged,
    release_logged,
    take_logged,
    tasks_of_log,
)
from trainer.iteration import Timing, iteration_metrics
from trainer.local_rollouts import with_forks
from trainer.progress import Listener, Progress, Stage, silent
from trainer.publish import check_changed, manifest_of
from trainer.replacement import check_remembered
from trainer.report import write_report
from trainer.result import TrainResult, held_out_figures
from trainer.rewards.judge import opened_judge
from trainer.rewards.verdicts import VERDICTS
from trainer.rollout import Rollouts
from trainer.run_folder import RunFolder
from trainer.samples import Sample, merge_identical, within_window
from trainer.task_pool import Draw, TaskPool, assemble
from trainer.trl_bridge import Learner

GENERATED_SECTION = 1000
"""Tokens of a generated document's section at most, however large the agent's own sections are."""
ANSWER_TOKENS = {"compact": 64}
OTHER_ANSWER_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that a run works with. `alias` learns."""

    alias: str
    config: TrainConfig
    settings: Settings
    pool: str
    folder: RunFolder
    log: LogInput
    tasks: TaskPool
    parent: Parent
    registry: Registry
    engine: Engine
    learner: Learner
    candidates: Candidates
    rollouts: Rollouts
    listen: Listener

    @property
    def max_tokens(self) -> int:
        """Tokens of an answer."""
        return self.config.max_answer_tokens or ANSWER_TOKENS.get(self.settings.prompt_pack, OTHER_ANSWER_TOKENS)


async def train(
    config: TrainConfig,
    settings: Settings,
    engine: Engine,
    *,
    store: MemoryStore | None = None,
    log: LogInput | None = None,
    pool: str = LOCAL_TENANT,
    replaces: int | None = None,
    listen: Listener = silent,
) -> TrainResult:
    """Train the policy that `config.policy` names (empty: `settings.agents.policy`), on the home's log and memory if no others are given.

    `replaces` is a retired version: training goes on from its nearest ancestor that is not retired, not from the current version.
    Raises NothingToDo, ConfigurationError, AdapterRefused (unchanged), EngineError, FloatingPointError (diverged), OSError.
    """
    started = time.perf_counter()
    check_settings(config, settings)
    home, alias = settings.home.resolve(), config.policy or settings.agents.policy
    log = log or await asyncio.to_thread(read_logged, home, alias, pool)
    logged = tasks_of_log(config, settings, log, pool)
    await check_engine(engine)
    registry, folder = Registry(home / "adapters"), RunFolder.create(home)
    parent = parent_of(registry, alias, pool, replaces)

    listen(Progress("prepare", text=f"run {folder.id}: loading {settings.engine.model_path}"))
    learner = await asyncio.to_thread(
        Learner, settings.engine.model_path, config.optimisation, seed=config.seed, output=folder.path, parent=parent.folder
    )
    budget = Budget.of(settings.agents.section_tokens, settings.agents.memory_tokens, settings.prompt_pack)
    tasks = await asyncio.to_thread(assemble, config, logged, length=learner.length, section_tokens=min(budget.section, GENERATED_SECTION))
    folder.save_tasks(tasks)
    folder.save_config(config, settings, pool=pool, parent=parent.version)
    if not config.generated_only:
        await asyncio.to_thread(take_logged, home, folder.id, log, alias, pool)

    agents = build_agents(settings.agents, settings.prompt_pack, [settings.home / "agents"])
    others = frozen_aliases(alias, [agents[name] for name in {task.agent for task in (*tasks.training, *tasks.held_out)}])
    async with (
        opened_store(store, settings) as memory,
        frozen_policies(engine, registry, others, pool=pool, run_id=folder.id) as frozen,
        opened_judge(config.judge, home / VERDICTS) as judge,
    ):
        candidates = Candidates(engine, learner, folder.candidates, alias=alias, run_id=folder.id)
        rollouts = Rollouts(engine, memory, agents, config.concurrency, config.rewards, config.scoring, judge, frozen)
        run = Run(alias, config, settings, pool, folder, log, tasks, parent, registry, engine, learner, candidates, rollouts, listen)
        try:
            first = await candidates.begin(parent.folder)
            known = await fingerprint(engine, first)
            if config.from_log.closed_book:
                run = await _without_answerable(run, first)
            before = await _measured(run, first, "before")
            iterations = await _learned(run)
            last = await candidates.sync()
            found = await fingerprint(engine, last)
            check_changed(found, known)
            after = await _measured(run, last, "after")
            difference = paired_difference(before.sampled, after.sampled, seed=config.seed)
            refusal = _refusal(config, difference)
            manifest = None if refusal else await _published(run, last, found, held_out_figures(before, after, difference))
        finally:
            await candidates.close()
            await asyncio.to_thread(folder.drop_candidates)
    if not config.generated_only:
        await asyncio.to_thread(release_logged, home, folder.id, log, alias)
    seconds = time.perf_counter() - started
    result = TrainResult(folder, alias, manifest, refusal, before, after, difference, run.tasks, iterations, seconds)
    await asyncio.to_thread(write_report, result)
    return result


async def _without_answerable(run: Run, policy: Policy) -> Run:
    """The run less the logged tasks that need no memory. Raises NothingToDo if none is left to train on."""
    tasks = (*run.tasks.logged, *run.tasks.held_out)
    pool = without(run.tasks, await answerable(run.rollouts, tasks, policy, max_tokens=run.max_tokens))
    if not pool.logged and not run.config.generated_only:
        raise nothing_to_do(len(run.log.trajectories), pool.left_out)
    run.folder.save_tasks(pool)
    return replace(run, tasks=pool)


async def _learned(run: Run) -> list[dict[str, Any]]:
    """All iterations; their metrics."""
    draw, found = Draw(run.tasks, run.config), []
    for number in range(1, run.config.iterations + 1):
        metrics = await _iteration(run, number, draw.next())
        run.folder.append_metrics(metrics)
        run.listen(Progress("train", number, run.config.iterations, metrics=metrics))
        found.append(metrics)
    return found


async def _iteration(run: Run, number: int, tasks: Sequence[Task]) -> dict[str, Any]:
    """Roll out with the newest candidate, reward, credit, update, and sync when it is time."""
    timing, clock = Timing(), time.perf_counter()
    groups = await _rolled_out(run, tasks)
    timing.rollout_s = time.perf_counter() - clock

    clock = time.perf_counter()
    credited = credit(groups, run.config.credit, learning=Learning(run.alias, run.config.roles))
    samples, num_too_long = within_window(credited.samples, run.learner.window)
    lag = _lag(samples, run)
    update: Mapping[str, float] = {}
    if samples:
        update = await asyncio.to_thread(run.learner.update, merge_identical(samples))
    timing.update_s = time.perf_counter() - clock

    clock = time.perf_counter()
    if samples and run.learner.updates % run.config.sync_every == 0:
        await run.candidates.sync()
    timing.sync_s = time.perf_counter() - clock
    return iteration_metrics(
        number, tasks=tasks, groups=groups, credited=credited, num_too_long=num_too_long, update=update, lag=lag, timing=timing
    )


async def _rolled_out(run: Run, tasks: Sequence[Task]) -> list[TrajectoryGroup]:
    sampling = Sampling(temperature=run.config.optimisation.temperature, max_tokens=run.max_tokens)
    how: Any = {"policy": run.candidates.policy, "sampling": lambda *_: sampling}
    groups = await run.rollouts.groups(tasks, run.config.group_size, **how)
    return await with_forks(run.rollouts, tasks, groups, run.config.credit, learning=Learning(run.alias, run.config.roles), **how)


def _lag(samples: Sequence[Sample], run: Run) -> float:
    """How many updates older than the model the samples' policies are, on average."""
    lags = [run.learner.updates - run.candidates.updates[sample.policy] for sample in samples]
    return sum(lags) / len(lags) if lags else 0.0


async def _measured(run: Run, policy: Policy, stage: Stage) -> Evaluation:
    """Held-out accuracy, with the same seeds before and after."""
    total, done = len(run.tasks.held_out) * (run.config.samples_per_task + 1), 0

    def count() -> None:
        nonlocal done
        done += 1
        run.listen(Progress(stage, done, total))

    return await evaluate(
        run.rollouts,
        run.tasks.held_out,
        policy,
        samples_per_task=run.config.samples_per_task,
        temperature=run.config.optimisation.temperature,
        max_tokens=run.max_tokens,
        seed=run.config.seed,
        progress=count,
    )


def _refusal(config: TrainConfig, difference: Difference | None) -> str | None:
    """Why the result is not to be published; None if it is."""
    if config.publish == "never":
        return "publish=never"
    if config.publish == "unless_worse" and difference is not None and difference.high < 0:
        return f"worse on held-out tasks: {difference.mean:+.3f}, interval {difference.low:+.3f} to {difference.high:+.3f}"
    return None


async def _published(run: Run, policy: Policy, found: Fingerprint, figures: dict[str, Any]) -> Manifest:
    """The last candidate as the policy's next version."""
    alias, folder = run.alias, run.candidates.folder(policy)
    manifest = await asyncio.to_thread(
        manifest_of,
        folder,
        policy=alias,
        version=run.registry.next_version(alias, run.pool),
        parent=run.parent.version,
        base=run.engine.base,
        base_path=Path(run.settings.engine.model_path),
        run_id=run.folder.id,
        logged=run.log.trajectories,
        tasks=run.tasks.training,
        configuration=run.config.model_dump(mode="json", exclude={"judge": {"api_key"}}) | _frozen(run),
        metrics=figures | ({"replaces": run.parent.replaces} if run.parent.replaces else {}),
        fingerprint=found,
    )
    await asyncio.to_thread(
        run.registry.publish,
        folder,
        manifest,
        pool=run.pool,
        make_current=run.config.make_current,
        check=lambda: check_remembered(run.settings.home / "trajectories", manifest),
    )
    run.listen(Progress("publish", text=f"published {alias}@v{manifest.version}"))
    return manifest


def _frozen(run: Run) -> dict[str, Any]:
    """What the policy was trained against, for the manifest."""
    return {"frozen": {alias: policy.name for alias, policy in run.rollouts.frozen.items()}} if run.rollouts.frozen else {}
