"""What a validation error says to a caller. Never the value: that may be what a user wrote."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

from pydantic import BaseModel

Place = tuple[str | int, ...]
UNSOUND = "unsound"
"""The type of an error that says itself which part of the body it means, in its context: `flaw`, `param`."""
_WRONG_TYPE = "_type"
_VALID = "Input should be a valid "


class Invalid(NamedTuple):
    """The message, the field (as a path such as `messages[0].content`) and the stable code."""

    message: str
    param: str | None
    code: str


def describe(errors: Sequence[Mapping[str, Any]], given: Any, model: Any, *, noun: str = "field") -> Invalid:
    """The first of pydantic's `errors` on `given`; of a union, that of the branch which is of the input's type."""
    error, place, types = _chosen([(error, _place(error, given)) for error in errors])
    param, kind = path_of(place), error["type"]
    if types:
        return Invalid(f"{param}: {_VALID}{types}", param, "invalid_type")
    if kind == "missing":
        how = "" if param else ", with content-type application/json"
        return Invalid(f"{param or 'a JSON body'} is required{how}", param, "missing_required_parameter")
    if kind == "extra_forbidden":
        known = list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) and len(place) == 1 else []
        return Invalid(f"unknown {noun} {param!r}{nearest(str(place[-1]), known)}", param, "unknown_parameter")
    if kind == UNSOUND:
        return Invalid(error["ctx"]["flaw"], path_of((*place, *error["ctx"]["place"])), "invalid_value")
    if kind == "value_error":
        return Invalid(f"{param or 'the body'}: {error['ctx']['error']}", param, "invalid_value")
    if not place:
        return Invalid(f"the body must be a JSON object, with content-type application/json: {error['msg']}", None, "invalid_type")
    return Invalid(f"{param}: {error['msg']}", param, f"invalid_{kind}")


def path_of(place: Sequence[str | int]) -> str | None:
    """`messages[0].content` for its parts; None for the whole."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or None


def nearest(name: str, known: Collection[str]) -> str:
    """How to mend the unknown `name`."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(known)}" if known else "; leave it out"


def _chosen(errors: Sequence[tuple[Mapping[str, Any], Place]]) -> tuple[Mapping[str, Any], Place, str]:
    """The error to tell with its place; the types that were possible there, where none of a union's branches is of the input's."""
    first, place = errors[0]
    # Each branch of a union has errors of its own: those of the others are at the same place or further in.
    branches = [(error, at) for error, at in errors if at[: len(place)] == place]
    for error, at in branches:
        if at != place or not str(error["type"]).endswith(_WRONG_TYPE):
            return error, at, ""
    types = list(dict.fromkeys(str(error["msg"]).removeprefix(_VALID) for error, _ in branches))
    return first, place, f"{', '.join(types[:-1])} or {types[-1]}" if len(types) > 1 else ""


def _place(error: Mapping[str, Any], given: Any) -> Place:
    """Where in `given` the error is: pydantic's location also names the branches of unions, which are nothing that was sent."""
    place: list[str | int] = []
    location = cast("Sequence[str | int]", error["loc"])
    for index, part in enumerate(location):
        if isinstance(given, Mapping) and part in given:
            given = cast("Mapping[Any, Any]", given)[part]
        elif isinstance(given, list) and isinstance(part, int):
            given = cast("list[Any]", given)[part]
        elif error["type"] != "missing" or index < len(location) - 1:
            continue
        place.append(part)
    return tuple(place)
