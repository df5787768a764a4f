"""What a run begins with: the log, the store, the engine, the parent version, the tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from memory_store.embedders.choose import choose
from memory_store.store import LanceMemoryStore
from recollect.errors import ConfigurationError, EngineUnavailable, NotFound
from recollect.events import LoggedTrajectory
from recollect.log import read_log
from recollect.memory import LOCAL_TENANT
from recollect.registry import Registry
from recollect.settings import Settings
from recollect.stores import MemoryStore
from server.agents.registry import flows
from server.engines.base import Engine
from trainer.config import TrainConfig
from trainer.rewards.catalogue import BY_STEP, JUDGE
from trainer.task_pool import FromLog, from_logged


class NothingToDo(NotFound):
    """The log offers no task, and generated tasks alone were not asked for."""

    default_code = "nothing_to_do"


@dataclass(frozen=True, slots=True)
class LogInput:
    """Logged trajectories, and the closed segments that they were read from."""

    trajectories: Sequence[LoggedTrajectory]
    segments: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Parent:
    """The current version of the policy, that training goes on from; without one, the base model."""

    version: int | None
    folder: Path | None


def read_logged(home: Path) -> LogInput:
    """The home's whole log, folded. Corrupt lines are left out."""
    contents = read_log(home / "trajectories")
    return LogInput(contents.trajectories, contents.segments)


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
    """The log's tasks. Raises NothingToDo if there is none to train on, unless generated tasks alone were asked for."""
    found = from_logged(config, log.trajectories, pool, flows(settings.agents, [settings.home / "agents"]))
    if not found.training and not config.generated_only:
        raise nothing_to_do(len(log.trajectories), found.left_out)
    return found


def nothing_to_do(num_logged: int, left_out: dict[str, int]) -> NothingToDo:
    """The error, with the reasons."""
    if not num_logged:
        why = "the trajectory log is empty; use the agents and send feedback on their answers first"
    else:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items())) or "all are held out"
        why = f"{num_logged} trajectories give no task ({reasons}); accept or correct answers through /v1/feedback"
    return NothingToDo(f"nothing to do: {why}, or train on generated tasks alone with --generated-only")


async def check_engine(engine: Engine) -> None:
    """Raises EngineUnavailable if the engine does not answer."""
    health = await engine.health()
    if not health.ready:
        raise EngineUnavailable(f"the engine is not ready: {health.detail}")


def parent_of(registry: Registry, alias: str, pool: str) -> Parent:
    """The current version, checked. Raises AdapterRefused."""
    version = registry.current(alias, pool)
    if version is None:
        return Parent(None, None)
    registry.verify(alias, version, pool)
    return Parent(version, registry.path(alias, version, pool))


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
