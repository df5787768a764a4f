"""Who may be asked to do what: the file that `delegation.file` names. What it does not allow is refused."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, model_validator

from recollect.errors import ConfigurationError
from recollect.memory import LOCAL_TENANT, TENANT
from recollect.model import Frozen
from recollect.settings import http_url
from recollect.yaml_text import NotYaml, read_yaml

Call = Literal["think", "see", "agent_task", "spawn_agent"]
Effort = Literal["low", "medium", "high"]
WorkerTool = Literal["search_memories", "add_memory", "list_files", "read_file", "search_files"]
AbsoluteFolder = Annotated[Path, AfterValidator(lambda path: _absolute(path))]


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError("write an absolute path")
    if not path.is_dir():
        raise ValueError("there is no such folder")
    return path


def _without_key(url: str) -> str:
    if "@" in urlsplit(url).netloc:
        raise ValueError("leave the user and the password out, and name the variable that holds the key as api_key_env")
    return url


class ModelConfig(Frozen):
    """One model of a provider."""

    vision: bool = False
    """Whether it takes images."""
    tools: Literal["native", "text"] = "native"
    """How it calls tools: by the protocol, or by a line of JSON in its answer, for models that were not trained to."""
    cost: float = Field(default=0.0, ge=0)
    """Of a million tokens, in whatever currency: routing compares it."""
    max_chars: int | None = Field(default=None, ge=1)
    """Of a task; longer ones are routed to others."""


Models = Annotated[dict[Annotated[str, Field(min_length=1)], ModelConfig], Field(min_length=1)]


class ChatProvider(Frozen):
    """A server that speaks OpenAI's chat completions: Ollama, or any other."""

    kind: Literal["ollama", "openai"]
    url: Annotated[str, AfterValidator(http_url), AfterValidator(lambda url: _without_key(url))]
    api_key_env: Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]{0,63})?$")] = ""
    """The environment variable that holds its key."""
    timeout_s: float = Field(default=120.0, gt=0, le=86_400)
    """For a whole answer. One that takes longer counts as failed, and the next model is asked."""
    models: Models


class CodexProvider(Frozen):
    """The Codex CLI, which does a task by itself in one of `folders`, inside its sandbox. That keeps it from writing elsewhere, not from
    reading: it can read what the server's user can, so that one tenant alone may ask it."""

    kind: Literal["codex"]
    command: str = "codex"
    folders: tuple[AbsoluteFolder, ...] = Field(min_length=1)
    sandbox: Literal["read-only", "workspace-write"] = "read-only"
    environment: tuple[str, ...] = ("CODEX_HOME", "OPENAI_API_KEY", "CODEX_API_KEY")
    """The variables of the server's environment that it is given, besides HOME and PATH."""
    models: Models


class OwnProvider(Frozen):
    """Recollect's own agents: `think` asks one of them; a worker is the server's own model, with tools."""

    kind: Literal["agents"]
    models: Models


Provider = Annotated[ChatProvider | CodexProvider | OwnProvider, Field(discriminator="kind")]
KINDS = ("ollama", "openai", "codex", "agents")


class Rule(Frozen):
    """Where tasks go that fit: to the first of `use` that is well, or to the cheapest."""

    task: tuple[str, ...] = ()
    """Types of task; none: any."""
    min_chars: int = Field(default=0, ge=0)
    max_chars: int | None = Field(default=None, ge=1)
    effort: tuple[Effort, ...] = ()
    use: tuple[str, ...] = Field(min_length=1)
    """`provider/model`, or `provider` for its first one."""
    prefer: Literal["listed", "cheapest"] = "listed"
    max_cost: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _some_fit(self) -> Self:
        if self.max_chars is not None and self.max_chars < self.min_chars:
            raise ValueError("max_chars is less than min_chars: no task fits")
        return self


class WorkerType(Frozen):
    """A kind of worker that is asked for by its name."""

    instructions: str
    use: str = ""
    """`provider/model`; empty: by the rules."""
    tools: tuple[WorkerTool, ...] | None = None
    """The tools that it has; left out: all."""


class Budget(Frozen):
    """What one worker, or one call, may use."""

    steps: int = Field(default=16, ge=1)
    """Model calls of one task."""
    tokens: int = Field(default=200_000, ge=1)
    """Of all tasks of a worker, prompts and completions."""
    seconds: float = Field(default=600.0, gt=0, le=86_400)
    """Of one task."""


class Limits(Frozen):
    """How many workers a tenant may have."""

    running: int = Field(default=4, ge=1)
    kept: int = Field(default=200, ge=1)
    """When there are more, the oldest that are not running are removed."""


class Plan(Frozen):
    """The whole file."""

    allow: tuple[Call, ...] = ()
    """The tools that may be called; nothing by default."""
    tenants: tuple[Annotated[str, Field(pattern=f"^(?:{TENANT.pattern})$")], ...] = Field(default=(LOCAL_TENANT,), min_length=1)
    """Who may call them."""
    roots: tuple[AbsoluteFolder, ...] = ()
    """Folders whose files workers may read, and `see` may look at."""
    providers: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")], Provider] = Field(min_length=1)
    routing: tuple[Rule, ...] = ()
    types: dict[str, WorkerType] = Field(default_factory=dict[str, WorkerType])
    budget: Budget = Budget()
    workers: Limits = Limits()

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        named = [(f"routing.{i}.use", name) for i, rule in enumerate(self.routing) for name in rule.use]
        named += [(f"types.{name}.use", kind.use) for name, kind in self.types.items() if kind.use]
        for where, name in named:
            provider, _, model = name.partition("/")
            if provider not in self.providers:
                raise ValueError(f"{where}: no provider {provider!r}; there are {', '.join(self.providers)}")
            if model and model not in self.providers[provider].models:
                raise ValueError(f"{where}: {provider} has no model {model!r}; it has {', '.join(self.providers[provider].models)}")
        if len(self.tenants) > 1 and any(isinstance(provider, CodexProvider) for provider in self.providers.values()):
            raise ValueError("tenants: codex can read whatever the server's user can, all tenants' memories too; name one tenant alone")
        return self

    @property
    def targets(self) -> list[str]:
        """Every `provider/model`."""
        return [f"{name}/{model}" for name, provider in self.providers.items() for model in provider.models]


def load(path: Path) -> Plan:
    """Read the file. Raises ConfigurationError that names the field."""
    if path.exists() and not path.is_file():
        raise ConfigurationError(f"delegation.file {path} is no regular file", param="delegation.file")
    try:
        found: Any = read_yaml(path)
    except OSError as exc:
        raise ConfigurationError(f"delegation.file {path} cannot be read: {exc.strerror}", param="delegation.file") from exc
    except NotYaml as exc:
        raise ConfigurationError(f"delegation.file {path} {exc}", param="delegation.file") from exc
    if not isinstance(found, dict):
        raise ConfigurationError(f"delegation.file {path} must hold a mapping: lines of 'key: value'", param="delegation.file")
    try:
        return Plan.model_validate(found)
    except ValidationError as exc:
        field, said = _problem(exc)
        raise ConfigurationError(f"{path}: {f'{field}: ' if field else ''}{said}", param=field or "delegation.file") from exc


_SAID = {
    "tuple_type": "write a list: [a, b]",
    "dict_type": "write a mapping: {name: ...}",
    "union_tag_not_found": f"kind is missing; write one of {', '.join(KINDS)}",
    "union_tag_invalid": f"kind is none of {', '.join(KINDS)}",
    "string_pattern_mismatch": "it has other letters than it may",
}
"""pydantic's kinds of problems whose own words tell no user what to write."""


def _problem(exc: ValidationError) -> tuple[str, str]:
    """The field of the first problem as the file has it, and what is wrong with it."""
    problem = exc.errors(include_url=False)[0]
    parts = [str(part) for part in problem["loc"] if part != "[key]"]
    if len(parts) > 2 and parts[0] == "providers" and parts[2] in KINDS:
        del parts[2]  # pydantic's name for the kind, which is no key of the file
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(parts[-1], Plan.model_fields, n=1) if len(parts) == 1 else []
        return ".".join(parts), f"unknown field{f'; did you mean {near[0]!r}?' if near else ''}"
    return ".".join(parts), _SAID.get(problem["type"], problem["msg"].removeprefix("Value error, "))
