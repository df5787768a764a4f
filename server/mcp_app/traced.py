"""A span for each message of MCP, by OpenTelemetry's conventions for it.

It stands in the place of the SDK's own, which writes the texts of errors into its spans.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext
from mcp_types import CallToolResult

from server import tracing

SDKS_OWN = "OpenTelemetryMiddleware"
METHODS = frozenset(
    {
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "tools/call",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/read",
        "resources/templates/list",
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
    }
)
OTHER = "_OTHER"
_REVISION = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class Traced(ServerMiddleware[Any]):
    """Names of tools and methods are told where they are ours; what else a client writes there may be anything."""

    def __init__(self, tools: Collection[str]) -> None:
        self._tools = frozenset(tools)

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        method = ctx.method if ctx.method in METHODS else OTHER
        attributes: dict[str, tracing.Value] = {"mcp.method.name": method}
        if _REVISION.fullmatch(ctx.protocol_version):
            attributes["mcp.protocol.version"] = ctx.protocol_version
        name = method
        if method == "tools/call":
            attributes["gen_ai.operation.name"] = "execute_tool"
            if (tool := (ctx.params or {}).get("name")) in self._tools:
                attributes["gen_ai.tool.name"] = tool
                name = f"{method} {tool}"
        with tracing.span(name, attributes, kind="server", carrier=_carrier(ctx.meta)) as span:
            result = await call_next(ctx)
            match result:
                case CallToolResult(is_error=True) | {"isError": True}:
                    span.fail("tool_error")
                case _:
                    pass
            return result


def _carrier(meta: Mapping[str, Any] | None) -> Mapping[str, str]:
    """A trace that the client names in the message itself."""
    return {key: value for key in ("traceparent", "tracestate") if isinstance(value := (meta or {}).get(key), str)}
