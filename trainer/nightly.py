"""One night: go on with a run that died, or begin one on what is new in the log; whatever happens, one sentence tells it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from recollect.adapter_story import DAY
from recollect.canary_judging import judged
from recollect.errors import AdapterRefused, ConfigurationError, Conflict, RecollectError
from recollect.memory import LOCAL_TENANT
from recollect.registry import Registry
from recollect.settings import Settings
from recollect.train_lock import exclusive
from server.engines.base import Engine
from trainer.abandoning import abandon, blank_forgotten
from trainer.config import TrainConfig
from trainer.inputs import LogInput, NothingToDo, check_settings, read_logged, tasks_of_log
from trainer.nightly_settings import NightlySettings
from trainer.recorded import recorded_rollouts
from trainer.result import TrainResult
from trainer.resuming import Unfinished, found, saved_config, unfinished, unfinished_ids
from trainer.run_folder import TasksChanged
from trainer.running_engine import Listening, run_here, running_engine

logger = logging.getLogger(__name__)
PUBLISHED, FAILED, NOTHING, REFUSED = 0, 1, 3, 4
"""Exit codes: a version was published; something broke; there was nothing to do; a candidate was not good enough."""
MOST_RESUMES = 3
"""Nights that go on with one run in vain. One that dies again and again at the same place is given back."""
DEFAULTS: dict[str, Any] = {"publish": "gate", "from_log": {"since": "cursor"}, "optimisation": {"decay": True}}


class Night(NamedTuple):
    """What became of a night: the exit code, the sentence, and the run if there was one."""

    code: int
    said: str
    result: TrainResult | None = None
    resumed: str | None = None


def nightly(
    config: TrainConfig, settings: Settings, when: NightlySettings, *, engine_urls: Sequence[str] = (), listening: Listening
) -> Night:
    """Run one night on the settings' home. Never raises for what a night may meet: it is in the code and the sentence."""
    left = when.seconds_left(datetime.now())
    if left == 0:
        return Night(NOTHING, f"nothing to do: it is outside of the window {when.window}")
    os.nice(when.nice)
    until = None if left is None else time.monotonic() + left
    try:
        check_settings(config, settings)
        with ExitStack() as held:
            try:
                held.enter_context(exclusive(settings.home))
            except Conflict as exc:
                return Night(NOTHING, f"nothing to do: {exc.message}")
            return _alone(config, settings, when, engine_urls, until, listening)
    except NothingToDo as exc:
        return Night(NOTHING, exc.message)
    except (RecollectError, OSError) as exc:
        return Night(FAILED, f"failed: {exc}; nothing was published, and the next night goes on from here")
    except Exception as exc:  # the boundary to cron: whatever broke, a sentence and an exit code tell it, and the traceback is logged
        logger.exception("the night failed")
        return Night(FAILED, f"failed: {type(exc).__name__}: {exc}; nothing was published, and the next night goes on from here")


def new_tasks(config: TrainConfig, settings: Settings, when: NightlySettings) -> tuple[LogInput, int]:
    """What of the log is new to the policy, and how many tasks it gives. Raises NothingToDo if those are too few."""
    log = read_logged(settings.home, config.policy or settings.agents.policy)
    number = tasks_of_log(config, settings, log).figures.get("new_tasks", 0)
    if number < when.min_tasks and not config.generated_only:
        raise NothingToDo(f"nothing to do: {number} new tasks in the log, {when.min_tasks} are needed (min_tasks)")
    return log, number


def _alone(
    config: TrainConfig, settings: Settings, when: NightlySettings, engine_urls: Sequence[str], until: float | None, listening: Listening
) -> Night:
    """The night of the only trainer on the home: a canary is judged first, and nothing is learned while it is undecided."""
    registry, alias = Registry(settings.home.resolve() / "adapters"), config.policy or settings.agents.policy
    told = judged(registry, alias, timedelta(minutes=settings.agents.session_idle_minutes))
    if (waits := waits_for_canary(settings, alias)) is not None:
        return Night(NOTHING, f"nothing to do: {told or waits}")
    try:
        night = _learned(config, settings, when, engine_urls, until, listening)
    except NothingToDo as exc:
        night = Night(NOTHING, exc.message)
    return night if told is None else night._replace(said=f"{told}; {night.said}")


def waits_for_canary(settings: Settings, alias: str) -> str | None:
    """Why nothing is learned because of a canary; None without one, and while the run that published it has an end to write down."""
    home = settings.home.resolve()
    registry = Registry(home / "adapters")
    if (one := registry.canary(alias)) is None or registry.manifest(alias, one.version).run_id in unfinished_ids(home):
        return None
    return f"{alias}@v{one.version} is a canary until {one.canary.until:{DAY}} at most"


def _learned(
    config: TrainConfig, settings: Settings, when: NightlySettings, engine_urls: Sequence[str], until: float | None, listening: Listening
) -> Night:
    home = settings.home.resolve()
    blank_forgotten(home)
    before = asyncio.run(_unfinished(config, settings, engine_urls))
    log = before.log if before else new_tasks(config, settings, when)[0]
    chosen = before.config if before else config
    others = set(unfinished_ids(home)) - ({before.folder.id} if before else set())
    pool = before.pool if before else LOCAL_TENANT
    try:
        result = run_here(chosen, settings, engine_urls, log, listening, pool=pool, resume=before, until=until)
    except (FloatingPointError, NothingToDo, TasksChanged) as exc:
        # Going on would end here again, every night.
        for run_id in set(unfinished_ids(home)) - others:
            asyncio.run(_give_back(home, run_id, running_engine(settings, engine_urls)))
        if isinstance(exc, NothingToDo):
            raise
        return Night(FAILED, f"failed: {exc}; nothing was published, and what the run took of the log is new again")
    return Night(*_outcome(result), result, before.folder.id if before else None)


async def _unfinished(config: TrainConfig, settings: Settings, engine_urls: Sequence[str]) -> Unfinished | None:
    """The night's run to go on with: one of the same policy that was to pass the gate too. Other runs are left alone.

    Those that cannot go on are given back: settings changed, their parent is retired, or they died too often.
    """
    home = settings.home.resolve()
    usable: list[Unfinished] = []
    given_back: list[str] = []
    for run_id in unfinished_ids(home):
        saved = saved_config(found(home, run_id))["train"]
        if (saved["publish"], saved["policy"]) != (config.publish, config.policy):
            continue
        try:
            usable.append(unfinished(home, run_id, settings, api_key=config.judge.api_key))
        except (ConfigurationError, AdapterRefused):
            given_back.append(run_id)
    given_back += [one.folder.id for one in usable[:-1]]
    last = usable[-1] if usable else None
    if last is not None and _in_vain(last):
        given_back.append(last.folder.id)
        last = None
    for run_id in given_back:
        await _give_back(home, run_id, running_engine(settings, engine_urls))
    return last


def _in_vain(run: Unfinished) -> bool:
    """Whether nights have gone on with the run too often without a rollout more."""
    recorded = sum(1 for _ in recorded_rollouts(run.folder.rollouts, lambda _: None))
    return run.folder.fruitless_resumes(recorded) > MOST_RESUMES


async def _give_back(home: Path, run_id: str, engine: Engine) -> None:
    try:
        await engine.health()
        await abandon(home, found(home, run_id), engine)
    finally:
        await engine.close()


def _outcome(result: TrainResult) -> tuple[int, str]:
    difference = result.difference
    figures = (
        f"held-out {result.before.accuracy:.3f} to {result.after.accuracy:.3f} "
        f"({difference.mean:+.3f}, 95 % {difference.low:+.3f} to {difference.high:+.3f})"
        if difference
        else "not measured"
    )
    data = f"{len(result.tasks.logged)} tasks from the log, {len(result.tasks.generated)} generated"
    spent = f"{data}, {result.seconds / 60:.0f} min, run {result.run.id}"
    if result.manifest is not None:
        how = f" as a canary for {result.canary:.0%} of new sessions" if result.canary else ""
        return PUBLISHED, f"published {result.policy}@v{result.version}{how}: {figures}; {spent}"
    kept = "quarantined" if result.verdict.keep else "not published"
    return REFUSED, f"{kept}, {result.policy} is as it was: {result.refusal}; {figures}; {spent}"


def estimate(config: TrainConfig, reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a night would cost: rollouts, and minutes by the mean of earlier runs (None if there was none)."""
    rollouts = config.iterations * config.tasks_per_iteration * config.group_size
    measured = config.gate.regression_tasks + config.held_out_logged_tasks if config.publish == "gate" else config.held_out_tasks
    answers = 2 * measured * (config.samples_per_task + 1)
    rates = [
        report["seconds"] / (report["rollouts"] + report["answers"])
        for report in reports
        if report.get("rollouts") and report.get("answers") is not None
    ]
    seconds = sum(rates) / len(rates) * (rollouts + answers) if rates else None
    minutes = None if seconds is None else round(seconds / 60, 1)
    return {"rollouts": rollouts, "held_out_answers": answers, "minutes": minutes, "earlier_runs": len(rates)}
