"""An agent in YAML: which flow, which modules with which options, which prompt pack, which policy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, ValidationError, model_validator

from recollect.errors import ConfigurationError
from recollect.model import Frozen
from recollect.yaml_text import NotYaml, read_yaml

ModuleKind = Literal["extractor", "retriever", "reranker", "updater", "reader", "answerer"]
"""In the order in which they are built."""
SHIPPED = Path(__file__).parents[2] / "configs" / "agents"


class ModuleConfig(Frozen):
    """A module by the name under which it is registered, and its options: all other keys."""

    use: str
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, given: Any) -> Any:
        """`hybrid`, or `{use: hybrid, limit: 4}`."""
        if isinstance(given, str):
            return {"use": given}
        if isinstance(given, dict):
            fields = cast("dict[str, object]", given)
            return {"use": fields.get("use", ""), "options": {key: value for key, value in fields.items() if key != "use"}}
        return given


class AgentConfig(Frozen):
    """One agent. What is left out holds as the settings under `agents` say."""

    id: str
    """The model name that clients use."""
    flow: str
    description: str = ""
    modules: dict[ModuleKind, ModuleConfig]
    prompts: str = ""
    """A prompt pack, or the path of a folder with one."""
    policy: str = ""
    """The alias that modules call which name none of their own."""
    writing: Literal["", "none", "episodic", "operations"] = ""
    """What is written of a turn by a flow that writes."""


def load(path: Path) -> AgentConfig:
    """Read one file. Raises ConfigurationError that names the file and the field."""
    try:
        return AgentConfig.model_validate(read_yaml(path))
    except OSError as exc:
        raise ConfigurationError(f"the agent in {path} cannot be read: {exc.strerror}", param=str(path)) from exc
    except NotYaml as exc:
        raise ConfigurationError(f"the agent in {path} {exc}", param=str(path)) from exc
    except ValidationError as exc:
        problem = exc.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise ConfigurationError(f"{path}: {field}: {problem['msg']}", param=field) from exc


def found(folders: Iterable[Path]) -> dict[str, tuple[AgentConfig, Path]]:
    """All agents of the shipped folder and of others, by id. Raises ConfigurationError for a bad file, or two of one id."""
    agents: dict[str, tuple[AgentConfig, Path]] = {}
    for path in [file for folder in (SHIPPED, *folders) for file in sorted(folder.glob("*.yaml"), key=lambda f: f.stem)]:
        config = load(path)
        if config.id in agents:
            raise ConfigurationError(f"{path} and {agents[config.id][1]} both define an agent {config.id!r}; choose another id", param="id")
        agents[config.id] = (config, path)
    return agents
