"""Reads files of public data sets: JSON lists and JSON lines, each element checked against a model. Errors name file and place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from recollect.errors import InvalidRequest

M = TypeVar("M", bound=BaseModel)


def text(path: Path) -> str:
    """The whole file. Raises InvalidRequest if it cannot be read or is not UTF-8."""
    try:
        return path.read_text("utf-8")
    except OSError as exc:
        raise InvalidRequest(f"{path} cannot be read: {exc.strerror}", param="file") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{path} is no UTF-8 text: {exc}", param="file") from exc


def parsed(path: Path) -> Any:
    """The file as JSON. Raises InvalidRequest that names the line."""
    said = text(path)
    try:
        return json.loads(said)
    except RecursionError as exc:
        raise InvalidRequest(f"{path} is nested too deeply to be a data set", param="file") from exc
    except ValueError as exc:
        raise InvalidRequest(f"{path} is not JSON: {exc}", param="file") from exc


def items(path: Path, *, of: str = "records") -> list[Any]:
    """The elements of a JSON list, or of a `.jsonl` file, one a line. Raises InvalidRequest if it is no list, or empty."""
    found = _lines(path) if path.suffix == ".jsonl" else parsed(path)
    if not isinstance(found, list):
        raise InvalidRequest(f"{path} holds {type(found).__name__}, not a list of {of}", param="file")
    if not found:
        raise InvalidRequest(f"{path} holds no {of.removesuffix('s')}: its list is empty", param="file")
    return cast("list[Any]", found)


def checked(model: type[M], value: object, path: Path, field: str) -> M:
    """`value` as a `model`. Raises InvalidRequest that names the file and the field below `field`."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        first = exc.errors()[0]
        name = ".".join([field, *(str(part) for part in first["loc"])]).strip(".")
        raise InvalidRequest(f"{path}: {name}: {first['msg']}", param=name) from exc


def _lines(path: Path) -> list[Any]:
    found: list[Any] = []
    for number, line in enumerate(text(path).splitlines(), start=1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError) as exc:
                raise InvalidRequest(f"{path}: line {number} is not JSON: {exc}", param="file") from exc
    return found
