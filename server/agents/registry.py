"""Which agents there are, by the model names that clients use: those of YAML files, wired of registered modules."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from recollect.settings import AgentSettings
from server.agents import agent_config, wiring
from server.agents.agent_config import AgentConfig, ModuleKind
from server.agents.base import Agent
from server.agents.wiring import FLOWS, MODULES, Wiring

SHIPPED = ("answerer", "memory", "reader", "retriever", "updater", "memory_r1.agent", "memory_r1.answer", "memory_r1.facts", "rmm.agent")
KINDS: tuple[ModuleKind, ...] = get_args(ModuleKind)


def build_agent(name: str, settings: AgentSettings, pack: str, folders: Iterable[Path] = ()) -> Agent:
    """One agent. Raises ConfigurationError for an unknown name, module or option, or a prompt pack that does not fit."""
    configs = agent_config.found((*settings.folders, *folders))
    if name not in configs:
        raise wiring.unknown("agent", name, configs, "agents")
    return wired(configs[name][0], settings, pack)


def build_agents(settings: AgentSettings, pack: str, folders: Iterable[Path] = ()) -> dict[str, Agent]:
    """All agents, by id: the shipped ones, those of `agents.folders` and of `folders`."""
    configs = agent_config.found((*settings.folders, *folders))
    return {name: wired(config, settings, pack) for name, (config, _) in configs.items()}


def flows(settings: AgentSettings, folders: Iterable[Path] = ()) -> dict[str, str]:
    """The flow of every agent, by id."""
    return {name: config.flow for name, (config, _) in agent_config.found((*settings.folders, *folders)).items()}


def wired(config: AgentConfig, settings: AgentSettings, pack: str) -> Agent:
    """An agent of its configuration. Raises ConfigurationError."""
    return wired_with(config, settings, pack)[0]


def known_modules() -> list[dict[str, str]]:
    """Every module that YAML can name: its kind, its name, what it does."""
    _load_shipped()
    wiring.load_installed()
    return [{"kind": kind, "name": name, "what": known.line} for (kind, name), known in sorted(MODULES.items())]


def wired_with(config: AgentConfig, settings: AgentSettings, pack: str) -> tuple[Agent, Wiring]:
    """As `wired`, and what the agent was wired with."""
    _load_shipped()
    wiring.load_installed()
    if config.flow not in FLOWS:
        raise wiring.unknown("flow", config.flow, FLOWS, f"{config.id}.flow")
    parts = Wiring(settings, config.prompts or pack, config.policy or settings.policy)
    resolved: dict[str, object] = {}
    for kind in sorted(config.modules, key=KINDS.index):
        given, where = config.modules[kind], f"{config.id}.modules.{kind}"
        known = MODULES.get((kind, given.use))
        if known is None:
            raise wiring.unknown(kind, given.use, [name for of, name in MODULES if of == kind], f"{where}.use")
        options = wiring.options_of(known, given.options, settings, where)
        parts.modules[kind] = known.build(options, parts)
        resolved[kind] = {"use": given.use} | options.model_dump(mode="json")
    parts.resolved = {"flow": config.flow, "prompts": parts.pack, "policy": parts.policy, "modules": resolved}
    return FLOWS[config.flow](config, parts), parts


def _load_shipped() -> None:
    """Import the modules and flows of our own, which registers them."""
    for name in SHIPPED:
        importlib.import_module(f"server.agents.{name}")
