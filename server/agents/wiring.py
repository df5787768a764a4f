"""How modules and flows are registered by name, and what each is given when an agent is wired."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Any, Protocol, TypeVar, cast

from pydantic import ValidationError

from recollect import installed
from recollect.errors import ConfigurationError
from recollect.model import Frozen
from recollect.settings import AgentSettings
from server.agents.agent_config import AgentConfig, ModuleKind
from server.agents.base import Agent
from server.agents.prompts import Prompt, load_prompt

ENTRY_POINTS = "recollect.modules"
"""The group in which an installed package names its Python modules; importing them registers what they define."""


class ModuleOptions(Frozen):
    """What YAML may set of a module. `policy`: the alias that it calls, if it calls a model; empty: the agent's."""

    policy: str = ""

    @classmethod
    def defaults(cls, settings: AgentSettings) -> dict[str, object]:
        """What holds where YAML says nothing."""
        return {}


@dataclass(slots=True)
class Wiring:
    """What an agent is built from, and a note of the policies and prompts that its modules asked for."""

    settings: AgentSettings
    pack: str
    policy: str
    modules: dict[ModuleKind, Any] = field(default_factory=dict[ModuleKind, Any])
    """The modules that were built before: in the order of `ModuleKind`."""
    aliases: set[str] = field(default_factory=set[str])
    prompts: dict[str, Prompt] = field(default_factory=dict[str, Prompt])
    resolved: dict[str, object] = field(default_factory=dict[str, object])
    """The configuration with every option as it holds: what tells two agents apart, with the prompts."""

    def alias(self, options: ModuleOptions) -> str:
        """The policy alias that a module is to call."""
        alias = options.policy or self.policy
        self.aliases.add(alias)
        return alias

    def prompt(self, name: str) -> Prompt:
        """A prompt of the agent's pack. Raises ConfigurationError if the pack lacks it."""
        prompt = self.prompts[name] = load_prompt(self.pack, name)
        return prompt


class Wired(Protocol):
    """A class that YAML can name: it is built from its options and the wiring."""

    @classmethod
    def build(cls, options: Any, wiring: Wiring) -> Any: ...


@dataclass(frozen=True, slots=True)
class Known:
    """A registered module."""

    build: Callable[[Any, Wiring], Any]
    options: type[ModuleOptions]
    line: str


FlowBuilder = Callable[[AgentConfig, Wiring], Agent]
MODULES: dict[tuple[ModuleKind, str], Known] = {}
FLOWS: dict[str, FlowBuilder] = {}
M = TypeVar("M", bound=type[Any])
B = TypeVar("B", bound=FlowBuilder)


def module(kind: ModuleKind, name: str) -> Callable[[M], M]:
    """Register a class as the module `name` of a kind: `options` is its nested class `Options`, `build` makes one.

    Raises ConfigurationError if the name is taken.
    """

    def register(cls: M) -> M:
        if (kind, name) in MODULES:
            raise ConfigurationError(f"there is an {kind} called {name!r} already; choose another name", param=name)
        options = cast("type[ModuleOptions]", getattr(cls, "Options", ModuleOptions))
        line = (cls.__doc__ or "").strip().partition("\n")[0]
        MODULES[(kind, name)] = Known(cast("type[Wired]", cls).build, options, line)
        return cls

    return register


def flow(name: str) -> Callable[[B], B]:
    """Register a function that wires an agent of its configuration. Raises ConfigurationError if the name is taken."""

    def register(build: B) -> B:
        if name in FLOWS:
            raise ConfigurationError(f"there is a flow called {name!r} already; choose another name", param=name)
        FLOWS[name] = build
        return build

    return register


@cache
def load_installed() -> None:
    """Import what installed packages register. Raises ConfigurationError for one that cannot be imported."""
    installed.load_installed(ENTRY_POINTS, "modules")


def options_of(known: Known, given: Mapping[str, object], settings: AgentSettings, where: str) -> ModuleOptions:
    """The options of a module, checked. Raises ConfigurationError that names the option and those that there are."""
    try:
        return known.options.model_validate(known.options.defaults(settings) | dict(given))
    except ValidationError as exc:
        problem = exc.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise unknown("option", name, known.options.model_fields, f"{where}.{name}") from exc
        raise ConfigurationError(f"{where}.{name}: {problem['msg']}", param=f"{where}.{name}") from exc


def needed(config: AgentConfig, wiring: Wiring, kinds: Iterable[ModuleKind], allowed: Iterable[ModuleKind]) -> None:
    """Check what a flow is given. Raises ConfigurationError for a module that is missing or that the flow does not use."""
    for kind in kinds:
        if kind not in wiring.modules:
            raise ConfigurationError(f"the flow {config.flow!r} needs a module {kind!r}", param=f"{config.id}.modules.{kind}")
    for kind in sorted(set(wiring.modules) - {*kinds, *allowed}):
        raise ConfigurationError(
            f"the flow {config.flow!r} has no use for a module {kind!r}; remove it", param=f"{config.id}.modules.{kind}"
        )


def unknown(what: str, name: str, known: Iterable[str], param: str) -> ConfigurationError:
    """The error for a name that is not known: the nearest one, and all."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    return ConfigurationError(f"no {what} {name!r}{hint}; known {what}s: {', '.join(names) or 'none'}", param=param)
