"""A training run, from the log to a published version. Reads top to bottom."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial

from recollect.errors import Conflict, NotFound
from recollect.memory import LOCAL_TENANT
from recollect.policy import Policy
from recollect.registry import WEIGHTS, Registry, file_sha256
from recollect.settings import Settings
from recollect.stores import MemoryStore
from server.agents.budget import Budget
from server.agents.registry import build_agents
from server.engines.base import Engine
from trainer.abandoning import blank_forgotten, settle_finished, unload_forgotten
from trainer.candidates import Candidates
from trainer.closed_book import answerable, without
from trainer.config import TrainConfig
from trainer.device import Beside, Device
from trainer.evaluate import paired_difference
from trainer.frozen import frozen_aliases, frozen_policies
from trainer.inputs import (
    LogInput,
    check_base,
    check_engine,
    check_no_canary,
    check_settings,
    nothing_to_do,
    opened_store,
    parent_of,
    read_logged,
    release_logged,
    take_logged,
    tasks_of_log,
)
from trainer.iterations import learned
from trainer.judging import judged
from trainer.measuring import measure
from trainer.placing import place
from trainer.progress import Listener, Progress, silent
from trainer.recorded import Recorded
from trainer.report import write_report
from trainer.reporting import reporters, reporting
from trainer.result import TrainResult, held_out_figures
from trainer.resuming import Unfinished, why_not
from trainer.rewards.judge import opened_judge
from trainer.rewards.verdicts import VERDICTS
from trainer.rollout import Rollouts
from trainer.run import Run
from trainer.run_folder import RunFolder
from trainer.task_pool import assemble
from trainer.trl_bridge import Learner

GENERATED_SECTION = 1000
"""Tokens of a generated document's section at most, however large the agent's own sections are."""


async def train(
    config: TrainConfig,
    settings: Settings,
    engine: Engine,
    *,
    store: MemoryStore | None = None,
    log: LogInput | None = None,
    pool: str = LOCAL_TENANT,
    replaces: int | None = None,
    resume: Unfinished | None = None,
    until: float | None = None,
    device: Device | None = None,
    listen: Listener = silent,
) -> TrainResult:
    """Train the policy that `config.policy` names (empty: `settings.agents.policy`), on the home's log and memory if no others are given.

    `replaces` is a retired version: training goes on from its nearest ancestor that is not retired, not from the current version.
    `resume` is a run that died: it goes on behind its last checkpoint, and repeats no rollout that it recorded.
    `device`: where updates are made; None: beside the engine.
    `until` (of `time.monotonic`): iterations end so that the run can be measured by then; it is published as it is.
    Raises NothingToDo, ConfigurationError, AdapterRefused, Conflict, EngineError, FloatingPointError (diverged), OSError.
    """
    started = time.perf_counter()
    check_settings(config, settings)
    reports = reporters(config.report_to)
    home, alias = settings.home.resolve(), config.policy or settings.agents.policy
    await asyncio.to_thread(blank_forgotten, home)
    await asyncio.to_thread(settle_finished, home)
    if resume and (why := why_not(home, resume.folder)):
        raise Conflict(f"run {resume.folder.id} cannot go on: {why}", param="resume")
    log = log or (resume.log if resume else await asyncio.to_thread(read_logged, home, alias, pool))
    logged = tasks_of_log(config, settings, log, pool)
    device = device or Beside()
    await device.begin()
    await check_engine(engine)
    await unload_forgotten(home, engine)
    registry = Registry(home / "adapters")
    if config.publish != "never":
        check_no_canary(registry, alias, pool, resume.folder.id if resume else None)
    parent = resume.parent if resume else parent_of(registry, alias, pool, replaces)
    check_base(registry, alias, parent, engine.base, pool)
    folder = resume.folder if resume else RunFolder.create(home)

    listen(Progress("prepare", text=f"run {folder.id}: loading {settings.engine.model_path}"))
    made = partial(Learner, settings.engine.model_path, config.optimisation, seed=config.seed, output=folder.path)
    learner = await device.use(partial(made, parent=parent.folder, planned=config.iterations))
    budget = Budget.of(settings.agents.section_tokens, settings.agents.memory_tokens, settings.prompt_pack)
    tasks = await asyncio.to_thread(assemble, config, logged, length=learner.length, section_tokens=min(budget.section, GENERATED_SECTION))
    if resume is None:
        folder.save_tasks(tasks)
        folder.save_config(config, settings, pool=pool, parent=parent.version, replaces=parent.replaces, window=learner.window)
    else:
        folder.check_tasks(tasks)
    if (checkpoint := folder.checkpoint()) is not None:
        await asyncio.to_thread(learner.restore, checkpoint[1])
    if not config.generated_only:
        await asyncio.to_thread(take_logged, home, folder.id, log, alias, pool)

    agents = build_agents(settings.agents, settings.prompt_pack, [settings.home / "agents"])
    others = frozen_aliases(alias, [agents[name] for name in {task.agent for task in (*tasks.training, *tasks.held_out)}])
    done = checkpoint[0] if checkpoint else 0
    async with (
        opened_store(store, settings) as memory,
        frozen_policies(engine, registry, folder.frozen(registry, others, pool), pool=pool, run_id=folder.id) as frozen,
        opened_judge(config.judge, home / VERDICTS) as judge,
        reporting(reports, folder, learner.arguments, listen) as told,
    ):
        recorded = await asyncio.to_thread(Recorded, folder.rollouts, lambda stage: not stage.isdigit() or int(stage) > done)
        candidates = Candidates(engine, learner, folder.candidates, alias=alias, run_id=folder.id)
        rollouts = Rollouts(engine, memory, agents, config.concurrency, config.rewards, config.scoring, judge, frozen)
        parts = (folder, log, tasks, parent, registry, engine, learner, candidates, rollouts, recorded, device, until, told)
        run = Run(alias, config, settings, pool, *parts)
        try:
            first = await candidates.begin(parent.folder)
            if config.from_log.closed_book:
                run = await _without_answerable(run, first)
            if (before := folder.before()) is None:
                before = await measure(run, first, "before")
                folder.save_before(before)
            found = await learned(run, after_s=before.held_out.duration_s)
            last = await candidates.sync()
            after = await measure(run, last, "after")
            difference = paired_difference(before.held_out.sampled, after.held_out.sampled, seed=config.seed)
            verdict = await judged(run, before, after, found)
            weights = file_sha256(candidates.folder(last) / WEIGHTS) if last.adapter else None
            figures = held_out_figures(before.held_out, after.held_out, difference)
            manifest = await place(run, last, verdict, after.fingerprint, figures, found.iterations)
        finally:
            try:
                await candidates.close()
                await asyncio.to_thread(folder.drop_candidates)
            finally:
                await asyncio.to_thread(recorded.close)
                # What was forgotten while the run wrote is blanked by the run: nobody else can write its open segment.
                await asyncio.to_thread(blank_forgotten, home)
    seconds = time.perf_counter() - started
    measured = (before.held_out, after.held_out, difference)
    result = TrainResult(folder, alias, manifest, verdict, *measured, run.tasks, found.iterations, seconds, weights)
    await asyncio.to_thread(write_report, result)
    if not config.generated_only:
        with suppress(NotFound):  # it was given back, because some of it was forgotten meanwhile
            await asyncio.to_thread(release_logged, home, folder.id, log, alias)
    await asyncio.to_thread(folder.drop_checkpoints)
    return result


async def _without_answerable(run: Run, policy: Policy) -> Run:
    """The run less the logged tasks that need no memory. Raises NothingToDo if none is left to train on."""
    tasks = (*run.tasks.logged, *run.tasks.held_out)
    found = await answerable(run.rollouts_of("closed_book"), tasks, policy, max_tokens=run.max_tokens)
    pool = without(run.tasks, found)
    if not pool.logged and not run.config.generated_only:
        raise nothing_to_do(len(run.log.trajectories), pool.left_out)
    run.folder.save_tasks(pool)
    return replace(run, tasks=pool)
