"""The policies that a run samples from and does not train: the counterpart of the one that learns (Memory-R1, arXiv 2508.19828)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager

from recollect.errors import ConfigurationError
from recollect.policy import Policy
from recollect.registry import Registry
from server.agents.base import Agent
from server.engines.base import Engine


def frozen_aliases(learner: str, agents: Iterable[Agent]) -> frozenset[str]:
    """The aliases that the agents call beside the learner's. Raises ConfigurationError if they do not call the learner's."""
    called = frozenset[str]().union(*(agent.aliases for agent in agents))
    if learner not in called:
        known = ", ".join(sorted(called))
        raise ConfigurationError(f"policy {learner!r} is called by no agent of the tasks; they call: {known}", param="policy")
    return called - {learner}


@asynccontextmanager
async def frozen_policies(
    engine: Engine, registry: Registry, versions: Mapping[str, int | None], *, pool: str, run_id: str
) -> AsyncGenerator[dict[str, Policy]]:
    """By alias the policy of its version; the base model for None.

    A version is loaded under a name of the run's own, `<alias>@run<id>.<version>`, and unloaded at the end: the published name
    is the server's, which may unload it at any time. Raises AdapterRefused, EngineError.
    """
    frozen: dict[str, Policy] = {}
    try:
        for alias, version in sorted(versions.items()):
            frozen[alias] = frozen_policy(engine.base, alias, version, run_id)
            if version is not None:
                await asyncio.to_thread(registry.verify, alias, version, pool)
                await engine.load_adapter(frozen[alias], str(registry.path(alias, version, pool).resolve()))
        yield frozen
    finally:
        for policy in frozen.values():
            if policy.adapter is not None:
                await engine.unload_adapter(policy)


def frozen_policy(base: str, alias: str, version: int | None, run_id: str) -> Policy:
    """What a run calls a version that it does not train; None: the base model."""
    return Policy(base=base) if version is None else Policy(base=base, adapter=alias, candidate=f"{run_id}.{version}")
