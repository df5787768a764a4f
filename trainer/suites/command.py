"""What `recollect eval SUITE` does: plan, run what is left, report."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory_store.embedders.choose import choose
from memory_store.store import LanceMemoryStore
from recollect.errors import ConfigurationError
from recollect.registry import Registry
from recollect.settings import Settings
from recollect.stores import MemoryStore
from server.agents.base import Agent
from server.agents.registry import build_agents
from server.engines.base import Sampling
from trainer.environments.tasks import Task
from trainer.rollout import Rollouts
from trainer.suites.baselines import baselines
from trainer.suites.contender import OWN, Contender, contenders, version_of
from trainer.suites.engines import loaded, opened_engine
from trainer.suites.metrics import metrics_of, rewards_of
from trainer.suites.results import Result, ResultFolder
from trainer.suites.runs import Runs
from trainer.suites.sources import tasks_of
from trainer.suites.suite import Suite

ANSWER_TOKENS = {"compact": 64}
OTHER_ANSWER_TOKENS = 1024
DENSE = "rag-dense"
Begin = Callable[[int, int], None]
Told = Callable[[Result], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is known before an engine is needed."""

    suite: Suite
    settings: Settings
    tasks: Sequence[Task]
    contenders: Sequence[Contender]
    agents: dict[str, Agent]
    columns: dict[str, dict[str, str]]

    @classmethod
    def of(cls, suite: Suite, settings: Settings, *, data: Path = Path(), limit: int | None = None) -> Plan:
        """Check the suite and make its tasks. Raises ConfigurationError, NotFound: before anything runs."""
        agents = {
            **build_agents(settings.agents, settings.prompt_pack),
            **baselines(settings.agents, settings.prompt_pack),
        }
        chosen = contenders(suite, Registry(settings.home / "adapters"), settings.agents.policy)
        columns, tasks = metrics_of(suite), tasks_of(suite.sets, data, limit=limit, needs=suite.needs)
        for name in {one.agent for one in chosen if one.agent != OWN} | {task.agent for task in tasks}:
            if name not in agents:
                raise ConfigurationError(f"no agent {name!r}; known agents: {', '.join(sorted(agents))}", param="agent")
        if settings.embedder.kind == "none" and any(one.agent == DENSE for one in chosen):
            raise _no_embedder()
        return cls(suite, settings, tasks, chosen, agents, columns)

    @property
    def config(self) -> dict[str, Any]:
        """What must be the same for an evaluation to go on: suite, tasks, contenders, weights, model, embedder, agents."""
        registry = Registry(self.settings.home / "adapters")
        versions = {policy: version_of(policy) for _, policy in self.contenders}
        tasks = "\n".join(task.model_dump_json() for task in self.tasks)
        return {
            "suite": self.suite.model_dump(mode="json"),
            "tasks": hashlib.sha256(tasks.encode()).hexdigest(),
            "contenders": [list(one) for one in self.contenders],
            "num_runs": len(self.contenders) * len(self.tasks) * self.suite.repeats,
            "agents": {**self.settings.agents.model_dump(mode="json"), "prompts": self.settings.prompt_pack},
            "model": self.settings.engine.model or "seed",
            "embedder": self.settings.embedder.model_dump(mode="json", include={"kind", "model"}),
            "weights": {policy: registry.manifest(*found).sha256 for policy, found in versions.items() if found},
        }

    @property
    def sampling(self) -> Sampling:
        """Of every run; the seed is each run's own."""
        chosen = self.suite.sampling
        tokens = chosen.max_tokens or ANSWER_TOKENS.get(self.settings.prompt_pack, OTHER_ANSWER_TOKENS)
        return Sampling(temperature=chosen.temperature, top_p=chosen.top_p, max_tokens=tokens)


def default_folder(plan: Plan) -> Path:
    """Where an evaluation goes if nothing else is said: the same configuration goes to the same folder."""
    digest = hashlib.sha256(repr(sorted(plan.config.items())).encode()).hexdigest()[:8]
    return plan.settings.home / "evals" / f"{plan.suite.name}-{digest}"


async def carry_out(plan: Plan, folder: ResultFolder, *, url: str | None, concurrency: int, begin: Begin, told: Told) -> None:
    """Make the runs that are left. `begin` is told how many there are and how many are done, when the engine is ready.

    Memory is a store of this evaluation's own, and gone with it. Raises Conflict (results.py), EngineUnavailable, AdapterRefused.
    """
    suite, registry = plan.suite, Registry(plan.settings.home / "adapters")
    runs = Runs(plan.contenders, plan.tasks, suite.repeats, plan.sampling, suite.sampling.seed, plan.columns)
    with folder.writing(plan.config):
        left = len(runs.left(folder))
        if not left:
            return
        names = list(dict.fromkeys(policy for _, policy in plan.contenders))
        async with (
            _scratch_store(plan) as store,
            opened_engine(plan.settings, url) as engine,
            loaded(engine, names, registry) as policies,
        ):
            begin(runs.total, runs.total - left)
            rollouts = Rollouts(engine, store, plan.agents, concurrency, rewards_of(plan.columns), suite.scoring)
            await runs.run(rollouts, policies, folder, told)


@asynccontextmanager
async def _scratch_store(plan: Plan) -> AsyncGenerator[MemoryStore]:
    """An empty store in a folder that is gone at the end. Raises ConfigurationError for dense search without an embedder."""
    embedder = await choose(plan.settings.embedder, plan.settings.home.resolve())
    if embedder is None and any(one.agent == DENSE for one in plan.contenders):
        raise _no_embedder()
    with tempfile.TemporaryDirectory(prefix="recollect-eval-") as place:
        store = LanceMemoryStore(Path(place), embedder)
        try:
            yield store
        finally:
            await store.close()


def _no_embedder() -> ConfigurationError:
    return ConfigurationError(
        f"baseline {DENSE} needs an embedder; set embedder.kind, or leave the baseline out (--no-baselines)", param="embedder.kind"
    )
