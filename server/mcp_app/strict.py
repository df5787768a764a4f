"""Tools that say of themselves what they do, and in one line what is wrong with their arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp_types import ToolAnnotations
from pydantic import ValidationError, create_model

from server.routes.invalid import describe


class _StrictTool(Tool):
    """A tool that tells in one line what is wrong with the arguments."""

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        try:
            self.fn_metadata.validate_arguments(arguments)
        except ValidationError as exc:
            raise ToolError(describe(exc.errors(), arguments, self.fn_metadata.arg_model, noun="argument").message) from exc
        return await super().run(arguments, context, convert_result)


class _AsSent(FuncMetadata):
    """Arguments as they were sent: a document that is JSON stays a text."""

    def pre_parse_json(self, data: dict[str, Any]) -> dict[str, Any]:
        return data


def tool_of(function: Callable[..., Any], hints: ToolAnnotations) -> Tool:
    """`function` as a tool that takes no other arguments than its own, and none of another type."""
    tool = _StrictTool.from_function(function, title=hints.title, annotations=hints)
    loose = tool.fn_metadata
    strict = create_model(loose.arg_model.__name__, __base__=loose.arg_model, __cls_kwargs__={"extra": "forbid", "strict": True})
    tool.fn_metadata = _AsSent(
        arg_model=strict, output_schema=loose.output_schema, output_model=loose.output_model, wrap_output=loose.wrap_output
    )
    tool.parameters = _terse(strict.model_json_schema(by_alias=True))
    if loose.output_schema is not None:
        tool.fn_metadata.output_schema = _undescribed(_terse(loose.output_schema))
    return tool


def _terse(schema: Any) -> Any:
    """The schema without what pydantic derives from the fields' names, and without defaults of nothing: models pay for every word."""
    if isinstance(schema, list):
        return [_terse(part) for part in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for name, value in cast("dict[str, Any]", schema).items():
        if name == "properties":
            kept[name] = {field: _terse(part) for field, part in value.items()}
        elif name == "anyOf":
            kept |= _optional([_terse(part) for part in value])
        elif not (name == "title" and isinstance(value, str)) and not (name == "default" and value in (None, "")):
            kept[name] = _terse(value)
    return kept


def _undescribed(schema: dict[str, Any]) -> dict[str, Any]:
    """An output's schema without what it says of whole objects: the tool's own text says it."""
    kept = {name: value for name, value in schema.items() if name != "description"}
    if "$defs" in kept:
        kept["$defs"] = {name: _undescribed(inner) for name, inner in kept["$defs"].items()}
    return kept


def _optional(branches: list[dict[str, Any]]) -> dict[str, Any]:
    """A branch or null, as one branch of two types where that says the same."""
    real = [branch for branch in branches if branch != {"type": "null"}]
    if len(real) == 1 and len(branches) == 2 and isinstance(real[0].get("type"), str) and "enum" not in real[0]:
        return {**real[0], "type": [real[0]["type"], "null"]}
    return {"anyOf": branches}


def hints(
    title: str, *, read_only: bool = False, destructive: bool = False, idempotent: bool = False, open_world: bool = False
) -> ToolAnnotations:
    """What a tool does, in words of the protocol; `open_world`: it reaches beyond this server."""
    return ToolAnnotations(
        title=title,
        read_only_hint=read_only,
        destructive_hint=destructive,
        idempotent_hint=idempotent or read_only,
        open_world_hint=open_world,
    )
