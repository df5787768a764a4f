"""Tools that a client offers to a model, and the calls that the model makes of them. The client runs them, not this server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal, cast

from pydantic import Field

from recollect.model import Frozen


class Tool(Frozen):
    """A function that the model may call. `parameters` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    strict: bool | None = None


class Tools(Frozen):
    """What is offered with one request. `choice` is auto, none, required, or `function` for the one that is `named`."""

    offered: tuple[Tool, ...]
    choice: Literal["auto", "none", "required", "function"] = "auto"
    named: str | None = None
    parallel: bool | None = None

    @property
    def forced(self) -> bool:
        """True if the answer must be a call: the engine may then bend what is sampled to the tools' schemas."""
        return self.choice in ("required", "function")


class ToolCall(Frozen):
    """One call. `arguments` is JSON text as the model wrote it, which may be none."""

    id: str
    name: str
    arguments: str


def texts_in(arguments: str) -> Iterator[str]:
    """The texts in a call's arguments, and these as they are."""
    yield arguments
    try:
        left: list[Any] = [json.loads(arguments)]
    except (ValueError, RecursionError):
        return
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            left += cast("dict[str, Any]", value).values()
        elif isinstance(value, list):
            left += cast("list[Any]", value)
