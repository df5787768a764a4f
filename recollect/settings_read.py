"""Reading settings: YAML, then `RECOLLECT_SECTION__KEY` in the environment, then `section.key=value` on the command line.

Unknown keys are errors that name the nearest known key. Texts are taken as they are written, so that a key of digits stays a
text; no error shows the value of a key.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard, TypeVar, cast

from pydantic import BaseModel, ValidationError

from recollect.errors import ConfigurationError
from recollect.settings import Settings
from recollect.yaml_text import NotYaml, load_yaml, read_yaml

M = TypeVar("M", bound=BaseModel)
PREFIX = "RECOLLECT_"
SECRETS = frozenset({"api_key", "headers", "storage_options"})
MAX_SHOWN = 80
"""Characters of a wrong value that an error repeats."""


def load(path: Path | None = None, overrides: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises ConfigurationError that names the key and, for an unknown one, the nearest known key."""
    values = read_file(path) if path else {}
    if home := environ.get("RECOLLECT_HOME"):
        values.setdefault("home", home)
    for name, value in environ.items():
        if name.startswith(PREFIX) and "__" in name:
            _set(Settings, values, name.removeprefix(PREFIX).lower().split("__"), value)
    for text in overrides:
        override(Settings, values, text)
    settings = parse(Settings, values)
    _check_home(settings.home)
    return settings


def read_file(path: Path) -> dict[str, Any]:
    """The values of a YAML file, as `--config` names it. Raises ConfigurationError."""
    try:
        values = read_yaml(path, texts=True)
    except FileNotFoundError as exc:
        raise ConfigurationError(f"no settings file at {path}; give --config a YAML file", param="config") from exc
    except OSError as exc:
        raise ConfigurationError(f"--config {path} cannot be read: {exc.strerror}; give a YAML file", param="config") from exc
    except NotYaml as exc:
        raise ConfigurationError(f"--config {path} {exc}", param="config") from exc
    if not isinstance(values, dict | None):
        raise ConfigurationError(f"--config {path} must hold a mapping: lines of 'key: value'", param="config")
    return cast("dict[str, Any]", values or {})


def override(model: type[BaseModel], values: dict[str, Any], text: str) -> None:
    """Put `section.key=value` into the `values` of a model. Raises ConfigurationError."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"{text!r} is no override; write key=value, for a key of a section section.key=value", param=text)
    _set(model, values, key.split("."), value)


def parse(model: type[M], values: dict[str, Any]) -> M:
    """Validate `values`, with an error that names the key and the nearest known one."""
    try:
        return model.model_validate(_filled(model, values))
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, _keys(model), n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(f"unknown setting {key!r}{hint}", param=key) from exc
        said = "write a list: [a, b]" if first["type"] == "tuple_type" else first["msg"].removeprefix("Value error, ")
        shown = "" if SECRETS.intersection(first["loc"]) else _shown(first["input"])
        raise ConfigurationError(f"setting {key!r}: {said}{shown}", param=key) from exc


def _shown(value: object) -> str:
    if value is None:
        return " (it is empty)"
    if not isinstance(value, str | int | float):
        # A mapping or a list may hold a key.
        return ""
    text = repr(value)
    return f" (got {text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + '…'})"


def _check_home(home: Path) -> None:
    there = next((place for place in (home, *home.parents) if os.path.exists(place)), None)
    if there is not None and not there.is_dir():
        raise ConfigurationError(
            f"home is {home}, but {there} is a file; give a folder: --home FOLDER, or RECOLLECT_HOME, or home in the settings", param="home"
        )


def _set(model: type[BaseModel], values: dict[str, Any], path: list[str], text: str) -> None:
    key = ".".join(path)
    kind: object = model
    for part in path[:-1]:
        kind = _kind(kind, part)
        below: Any = values.get(part)
        if below is None:
            below = values[part] = {}
        if not isinstance(below, dict):
            raise ConfigurationError(f"{key!r} is below a plain value", param=key)
        values = cast("dict[str, Any]", below)
    values[path[-1]] = _value(_kind(kind, path[-1]), key, text)


def _value(kind: object, key: str, text: str) -> Any:
    """What `text` means for a field of type `kind`: YAML, but where a text belongs, the text as it is, less quotes around it."""
    plain = kind is str or kind is Path
    if plain and not (len(text) > 1 and text[0] == text[-1] and text[0] in "'\""):
        return text
    try:
        value = load_yaml(text, texts=True)
    except NotYaml as exc:
        if plain:
            return text
        raise ConfigurationError(f"setting {key!r}: the value {exc}; write a plain value, or a list as [a, b]", param=key) from exc
    return text if plain and not isinstance(value, str) else value


def _filled(model: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """`values` with what a YAML file leaves empty: a section has no key set, a text is empty."""
    filled = dict(values)
    for name, value in values.items():
        kind = _kind(model, name)
        if _is_section(kind) and isinstance(value, dict | None):
            filled[name] = _filled(kind, cast("dict[str, Any]", value or {}))
        elif kind is str and value is None:
            filled[name] = ""
    return filled


def _kind(model: object, name: str) -> object:
    field = model.model_fields.get(name) if _is_section(model) else None
    return field.annotation if field else None


def _is_section(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, field in model.model_fields.items():
        found.append(prefix + name)
        if _is_section(field.annotation):
            found += _keys(field.annotation, f"{prefix}{name}.")
    return found
