"""Which agents there are, by the model names that clients use."""

from __future__ import annotations

from collections.abc import Callable

from recollect.errors import ConfigurationError
from recollect.settings import AgentSettings
from server.agents.base import Agent
from server.agents.memory import MemoryAgent
from server.agents.reader import ReaderAgent
from server.agents.rmm.agent import RmmAgent

Builder = Callable[[AgentSettings, str], Agent]

BUILDERS: dict[str, Builder] = {
    "memory": MemoryAgent.build,
    "reader": ReaderAgent.build,
    "rmm": RmmAgent.build,
}


def register(name: str, builder: Builder) -> None:
    """Add an agent. Raises ConfigurationError if the name is taken."""
    if name in BUILDERS:
        raise ConfigurationError(f"there is an agent called {name!r} already; choose another name", param="agents")
    BUILDERS[name] = builder


def build_agent(name: str, settings: AgentSettings, pack: str) -> Agent:
    """One agent. Raises ConfigurationError for an unknown name or a prompt pack that does not fit."""
    if name not in BUILDERS:
        raise ConfigurationError(f"no agent {name!r}; known agents: {', '.join(sorted(BUILDERS))}", param="agents")
    return BUILDERS[name](settings, pack)


def build_agents(settings: AgentSettings, pack: str) -> dict[str, Agent]:
    """All agents, by id."""
    return {name: build_agent(name, settings, pack) for name in BUILDERS}
