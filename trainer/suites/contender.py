"""A contender: an agent with a policy, whose scores stand in one column of a report."""

from __future__ import annotations

from typing import NamedTuple

from recollect.errors import NotFound
from recollect.registry import Registry
from trainer.suites.suite import Suite

OWN = "own"
"""Each task is answered by the agent that it names."""
BASE, CURRENT = "base", "current"


class Contender(NamedTuple):
    """`agent` is an agent's id, `own`, or a baseline; `policy` is `base` or `<policy>@v<number>`."""

    agent: str
    policy: str

    @property
    def name(self) -> str:
        """How reports call it."""
        return f"{self.agent}/{self.policy}"


def contenders(suite: Suite, registry: Registry, alias: str) -> list[Contender]:
    """The agent with each policy, then each baseline with the first policy. Raises NotFound for a version that is not there."""
    policies = list(dict.fromkeys(_resolved(name, registry, alias) for name in suite.policies))
    agents = [Contender(suite.agent or OWN, policy) for policy in policies]
    return agents + [Contender(baseline, policies[0]) for baseline in suite.baselines]


def version_of(policy: str) -> tuple[str, int] | None:
    """Alias and version of `<policy>@v<number>`; None for `base`. Raises NotFound for anything else."""
    if policy == BASE:
        return None
    alias, _, version = policy.rpartition("@v")
    if not alias or not version.isdecimal():
        raise NotFound(f"{policy!r} names no policy; write base, current or <policy>@v<number>", param="policy")
    return alias, int(version)


def _resolved(name: str, registry: Registry, alias: str) -> str:
    if name == CURRENT:
        version = registry.current(alias)
        return BASE if version is None else f"{alias}@v{version}"
    if found := version_of(name):
        registry.path(*found)
    return name
