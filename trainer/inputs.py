"""What a run begins with: the log, the store, the engine, the parent version, the tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from memory_store.embedders.choose import choose
from memory_store.store import LanceMemoryStore
from recollect.adapter_story import DAY
from recollect.errors import AdapterRefused, ConfigurationError, Conflict, EngineUnavailable, NotFound
from recollect.events import LoggedTrajectory
from recollect.log import mark_consumed
from recollect.log_cursor import Taken, Window, WindowContents, finish, read_new, read_taken, take
from recollect.memory import LOCAL_TENANT
from recollect.registry import Registry
from recollect.settings import Settings
from recollect.stores import MemoryStore
from server.agents.registry import build_agents, flows
from server.engines.base import Engine
from trainer.config import TrainConfig
from trainer.frozen import frozen_aliases
from trainer.rewards.catalogue import BY_STEP, JUDGE
from trainer.task_pool import FromLog, from_logged


class NothingToDo(NotFound):
    """The log offers no task, and generated tasks alone were not asked for."""

    default_code = "nothing_to_do"


@dataclass(frozen=True, slots=True)
class LogInput:
    """Logged trajectories, in the log's order, and the closed segments that they were read from.

    `fresh` are the ids of those that are new to the policy (None: all), `window` the lines that they stand in (None: of no home's log).
    """

    trajectories: Sequence[LoggedTrajectory]
    segments: Sequence[str] = ()
    fresh: Collection[str] | None = None
    window: Window | None = None
    figures: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Parent:
    """The version of the policy that training goes on from; without one, the base model.

    `replaces` is the retired version that the run replaces.
    """

    version: int | None
    folder: Path | None
    replaces: int | None = None


def read_logged(home: Path, policy: str, pool: str = LOCAL_TENANT) -> LogInput:
    """The home's whole log, folded, and what of it is new to the policy. Corrupt lines are left out and counted. Raises NewerLog."""
    return _input(read_new(home / "trajectories", pool=pool, policy=policy))


def read_again(home: Path, taken: Taken) -> LogInput:
    """The log as the run that is resumed read it, less what was forgotten since. Raises NewerLog."""
    return _input(read_taken(home / "trajectories", taken))


def take_logged(home: Path, run_id: str, log: LogInput, policy: str, pool: str = LOCAL_TENANT) -> None:
    """The run has its tasks: what is new of the log is its own from now on. Raises Conflict if another run took some of it."""
    if log.window is not None:
        take(home / "trajectories", run_id, log.window, pool=pool, policy=policy)


def release_logged(home: Path, run_id: str, log: LogInput, policy: str) -> None:
    """The run is over and needs the log no more: as far as its policy goes, retention may delete what was read."""
    if log.window is not None:
        finish(home / "trajectories", run_id)
        mark_consumed(home / "trajectories", run_id, log.segments, policy=policy)


def _input(found: WindowContents) -> LogInput:
    figures = {
        "trajectories": len(found.trajectories),
        "new_trajectories": len(found.fresh),
        "new_lines": found.window.num_fresh,
        "corrupt_lines": len(found.corrupt_lines),
        "later_than_now": found.num_later,
    }
    return LogInput(found.trajectories, found.closed, found.fresh, found.window, figures)


def check_settings(config: TrainConfig, settings: Settings) -> None:
    """Raises ConfigurationError for what would fail only after minutes."""
    rank, most = config.optimisation.rank, settings.engine.max_lora_rank
    if rank > most:
        raise ConfigurationError(
            f"optimisation.rank is {rank}, the engine takes {most} at most; lower it or raise engine.max_lora_rank",
            param="optimisation.rank",
        )
    if config.rewards.others.get(JUDGE) and not config.judge.url:
        raise ConfigurationError(
            "rewards.judge has a weight, but judge.url names no judge; set judge.url and judge.model", param="judge.url"
        )
    if config.credit.use == "step_groups" and not any(config.rewards.others.get(name) for name in BY_STEP):
        choice = " or ".join(f"rewards.{name}" for name in BY_STEP)
        raise ConfigurationError(
            f"credit.use is step_groups, but no reward that tells steps apart has a weight; give {choice} one", param="credit.use"
        )
    if settings.engine.kind in ("openai", "none"):
        raise ConfigurationError(
            f"engine.kind {settings.engine.kind!r} gives no token ids to train on; use vllm or attach", param="engine.kind"
        )


def tasks_of_log(config: TrainConfig, settings: Settings, log: LogInput, pool: str = LOCAL_TENANT) -> FromLog:
    """The log's tasks. Raises NothingToDo if there is none to train on, unless generated tasks alone were asked for;
    ConfigurationError if no agent calls the policy."""
    alias, folders = config.policy or settings.agents.policy, [settings.home / "agents"]
    agents = build_agents(settings.agents, settings.prompt_pack, folders)
    frozen_aliases(alias, agents.values())
    learners = {name for name, agent in agents.items() if alias in agent.aliases}
    found = from_logged(config, log.trajectories, pool, flows(settings.agents, folders), learners=learners, fresh=log.fresh)
    if not found.training and not config.generated_only:
        new = len(log.trajectories) if config.from_log.since == "all" or log.fresh is None else len(log.fresh)
        raise nothing_to_do(len(log.trajectories), found.left_out, num_new=new)
    return replace(found, figures={**log.figures, **found.figures})


def nothing_to_do(num_logged: int, left_out: dict[str, int], *, num_new: int | None = None) -> NothingToDo:
    """The error, with the reasons. `num_new`: how many of the trajectories are new, if not all are."""
    num_new = num_logged if num_new is None else num_new
    new = "new " if num_new < num_logged else ""
    if not num_logged:
        why = "the trajectory log is empty; use the agents and send feedback on their answers first"
    elif not num_new:
        why = f"none of {num_logged} trajectories is new since the last run of this policy; learn from all again with from_log.since=all"
    else:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items())) or "all are held out"
        why = f"{num_new} {new}trajectories give no task ({reasons}); accept or correct answers through /v1/feedback"
    return NothingToDo(f"nothing to do: {why}, or train on generated tasks alone with generated_only=true")


async def check_engine(engine: Engine) -> None:
    """Raises EngineUnavailable if the engine does not answer."""
    health = await engine.health()
    if not health.ready:
        raise EngineUnavailable(f"the engine is not ready: {health.detail}")


def parent_of(registry: Registry, alias: str, pool: str, replaces: int | None = None) -> Parent:
    """The current version, or the nearest ancestor of the one that is replaced that is not retired; checked. Raises AdapterRefused."""
    version = registry.current(alias, pool) if replaces is None else registry.standing(alias, replaces, pool)
    if version is None:
        return Parent(None, None, replaces)
    registry.verify(alias, version, pool)
    return Parent(version, registry.path(alias, version, pool), replaces)


def check_no_canary(registry: Registry, alias: str, pool: str, run_id: str | None) -> None:
    """Raises Conflict while another run's version is a canary: nothing may be published over it. `run_id`: of a run that is resumed."""
    one = registry.canary(alias, pool)
    if one is not None and registry.manifest(alias, one.version, pool).run_id != run_id:
        name = f"{alias}@v{one.version}"
        raise Conflict(
            f"{name} is a canary until {one.canary.until:{DAY}} at most; wait for it, or end it by hand: "
            f"recollect adapters promote {name}, or rollback {alias}",
            param="policy",
            code="canary_in_force",
        )


def check_base(registry: Registry, alias: str, parent: Parent, base: str, pool: str) -> None:
    """Raises AdapterRefused if the parent was trained on another base model than the engine serves."""
    if parent.version is not None and (of := registry.manifest(alias, parent.version, pool).base) != base:
        raise AdapterRefused(
            f"{alias}@v{parent.version} was trained on the base model {of!r}, the engine serves {base!r}; "
            f"serve that one, or begin from this one: recollect adapters promote {alias}@base"
        )


@asynccontextmanager
async def opened_store(given: MemoryStore | None, settings: Settings) -> AsyncGenerator[MemoryStore]:
    """The store that was given, or the home's own, closed at the end."""
    if given is not None:
        yield given
        return
    home = settings.home.resolve()
    embedder = await choose(settings.embedder, home)
    store = LanceMemoryStore(settings.memory_uri, embedder, storage_options=settings.memory.storage_options)
    try:
        yield store
    finally:
        await store.close()
