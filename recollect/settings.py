"""Settings: YAML, then `RECOLLECT_SECTION__KEY` in the environment, then `section.key=value` on the command line.

Unknown keys are errors that name the nearest known key.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import yaml
from pydantic import BaseModel, Field, ValidationError

from recollect.errors import ConfigurationError
from recollect.model import Frozen

M = TypeVar("M", bound=BaseModel)
PREFIX = "RECOLLECT_"
SEED_MODEL = Path(__file__).parent.parent / "models" / "seed"


class ServerSettings(Frozen):
    """Where the server listens."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "warning"


class EngineSettings(Frozen):
    """Which language model answers.

    `kind` vllm: start vLLM as a child on `model` (hub id or local path). attach: vLLM servers that run already, at `urls`.
    openai: any OpenAI-compatible server at `urls` (no token ids, so nothing is trained on it). none: memory only.
    """

    kind: Literal["vllm", "attach", "openai", "none"] = "vllm"
    model: str = ""
    """Empty: the bundled seed model."""
    urls: tuple[str, ...] = ()
    api_key: str = ""
    max_model_len: int | None = None
    dtype: str = "auto"
    max_lora_rank: int = 16
    max_loras: int = 4
    kv_cache_gb: int = 1
    gpu_memory_utilization: float | None = None
    arguments: tuple[str, ...] = ()
    """More arguments of vLLM's server, as they are."""
    start_timeout_s: float = 600.0
    request_timeout_s: float = 600.0

    @property
    def model_path(self) -> str:
        """The model to load: what was set, else the bundled seed model."""
        return self.model or str(SEED_MODEL)


class EmbedderSettings(Frozen):
    """How texts become vectors. auto: a MiniLM installed or exported under the home, else full text only, with a warning."""

    kind: Literal["auto", "onnx", "endpoint", "hash", "none"] = "auto"
    model: str = ""
    """A folder with model.onnx and tokenizer.json, a hub id, or the endpoint's model name."""
    url: str = ""
    api_key: str = ""


class AgentSettings(Frozen):
    """How the agents are wired."""

    prompts: str = ""
    """The prompt pack; empty: `compact` for the seed model, else `default`."""
    policy: str = "memory"
    """The alias that both agents' model calls use."""
    writing: Literal["episodic", "operations"] = "episodic"
    """episodic: the user's turns are kept as they are, no model call. operations: the policy adds, updates and deletes."""
    retrieve: int = Field(default=8, ge=1, le=100)
    related: int = Field(default=4, ge=1, le=20)
    memory_chars: int = 6000
    section_tokens: int = 0
    """Tokens of a section that `reader` reads at once; 0: 80 for the compact pack, else 5,000, or what fits the window."""
    memory_tokens: int = 0
    """Tokens that `reader`'s memory may have; 0: 48 for the compact pack, else 1,024."""


class LogSettings(Frozen):
    """The trajectory log."""

    enabled: bool = True
    fsync: bool = False
    segment_bytes: int = 16 * 2**20
    keep_bytes: int = 10 * 2**30
    keep_days: int | None = None


class Settings(Frozen):
    """Everything that can be set."""

    home: Path = Path(".recollect")
    server: ServerSettings = ServerSettings()
    engine: EngineSettings = EngineSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    agents: AgentSettings = AgentSettings()
    log: LogSettings = LogSettings()

    @property
    def prompt_pack(self) -> str:
        """The prompt pack in use."""
        if self.agents.prompts:
            return self.agents.prompts
        return "compact" if self.engine.kind == "vllm" and not self.engine.model else "default"


def load(path: Path | None = None, overrides: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises ConfigurationError that names the key and, for an unknown one, the nearest known key."""
    values: dict[str, Any] = _read_yaml(path) if path else {}
    if home := environ.get("RECOLLECT_HOME"):
        values.setdefault("home", home)
    for name, value in environ.items():
        if name.startswith(PREFIX) and "__" in name:
            _set(values, name.removeprefix(PREFIX).lower().split("__"), yaml.safe_load(value))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigurationError(f"{override!r} is no override; write section.key=value", param=override)
        _set(values, key.split("."), yaml.safe_load(value))
    return parse(Settings, values)


def parse(model: type[M], values: dict[str, Any]) -> M:
    """Validate `values`, with an error that names the key and the nearest known one."""
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, _keys(model), n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(f"unknown setting {key!r}{hint}", param=key) from exc
        raise ConfigurationError(f"setting {key!r}: {first['msg']} (got {first['input']!r})", param=key) from exc


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError as exc:
        raise ConfigurationError(f"no settings file at {path}", param="config") from exc
    except yaml.YAMLError as exc:
        raise ConfigurationError(f"{path} is not YAML: {exc}", param="config") from exc
    if not isinstance(values, dict | None):
        raise ConfigurationError(f"{path} must hold a mapping of sections", param="config")
    return cast("dict[str, Any]", values or {})


def _set(values: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        below: Any = values.setdefault(part, {})
        if not isinstance(below, dict):
            raise ConfigurationError(f"{'.'.join(path)!r} is below a plain value", param=".".join(path))
        values = cast("dict[str, Any]", below)
    values[path[-1]] = value


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, field in model.model_fields.items():
        found.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += _keys(field.annotation, f"{prefix}{name}.")
    return found
