"""`recollect mcp`: MCP over stdio for editors and coding agents, passed on to the running server's `/mcp`.

The shim keeps no state: every call finds the server anew and opens its own connection, so that a server that was restarted
is found again, and any number of windows share one server, which the first of them starts.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import httpx2
import mcp_types as types
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.shared.dispatcher import ProgressFnT

from clients.running import SERVE, RunningServer, ensure_server, recorded_server
from recollect.errors import RecollectError
from recollect.settings import Settings

API_KEY = "RECOLLECT_API_KEY"
CONNECT_TIMEOUT_S = 10.0
WANTED = {"delegate": "delegation.file=PATH (docs/delegation.md)", "all": "mcp.all=true"}
"""What the server has to be set to for a profile."""
Context = ServerRequestContext[Any]
Paged = types.PaginatedRequestParams | None
Part = tuple[float, float | None, str | None]
R = TypeVar("R")


def main(settings: Settings, profile: str = "memory") -> None:
    """Serve MCP on standard input and output until input ends. Raises RecollectError if no server can be started."""
    asyncio.run(run(settings, profile=profile))


async def run(settings: Settings, *, profile: str = "memory", serve: Sequence[str] = SERVE) -> None:
    """What `main` does; `serve` is the command that starts a server."""
    timeout = httpx2.Timeout(CONNECT_TIMEOUT_S, read=settings.engine.request_timeout_s + CONNECT_TIMEOUT_S)
    async with httpx2.AsyncClient(timeout=timeout, trust_env=False) as http:
        path = "/mcp" if profile == "memory" else f"/{profile}/mcp"
        upstream = Upstream(settings, http, tuple(serve), path)
        try:
            async with upstream.connected() as client:
                server = proxy(upstream, client)
        except (MCPError, ExceptionGroup) as exc:
            raise RecollectError(_unoffered(profile, leaf(exc))) from exc
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())


def leaf(exc: BaseException) -> BaseException:
    """What went wrong within groups of tasks."""
    if isinstance(exc, BaseExceptionGroup):
        return leaf(cast("BaseExceptionGroup[BaseException]", exc).exceptions[0])
    return exc


def _unoffered(profile: str, exc: BaseException) -> str:
    if profile in WANTED and "Not Found" in str(exc):
        return f"the server offers no profile {profile!r}; start it with {WANTED[profile]}"
    return f"the server does not speak MCP as it should: {exc or type(exc).__name__}"


@dataclass(frozen=True, slots=True)
class Upstream:
    """The server that calls are passed on to."""

    settings: Settings
    http: httpx2.AsyncClient
    serve: Sequence[str]
    path: str = "/mcp"

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[Client]:
        """A connection for one call; starts the server if none answers. Raises RecollectError."""
        async with AsyncExitStack() as stack:
            known = await asyncio.to_thread(recorded_server, self.settings.home)
            client = await self._reached(stack, known) if known else None
            if client is None:
                server = await ensure_server(self.settings, serve=self.serve)
                client = await stack.enter_async_context(self._client(server))
            yield client

    async def call(self, send: Callable[[Client], Awaitable[R]]) -> R:
        """Pass one call on. Raises MCPError: the server's own, or one that says why it could not be asked."""
        try:
            async with self.connected() as client:
                try:
                    return await send(client)
                except MCPError as exc:
                    # Raised again below: the connection's task group would wrap it in a group.
                    refusal = exc
        except (RecollectError, httpx2.TransportError, ExceptionGroup) as exc:
            reason = exc.message if isinstance(exc, RecollectError) else "the connection to the recollect server broke; try again"
            raise MCPError(types.INTERNAL_ERROR, reason) from exc
        raise refusal

    async def _reached(self, stack: AsyncExitStack, server: RunningServer) -> Client | None:
        """The connection, or None if there is no answer. Connecting asks what the server offers, and sends no call yet."""
        try:
            return await stack.enter_async_context(self._client(server))
        except (httpx2.TransportError, ExceptionGroup):
            return None

    def _client(self, server: RunningServer) -> Client:
        # A server that was started anew has another token.
        if key := os.environ.get(API_KEY) or server.token:
            self.http.headers["authorization"] = f"Bearer {key}"
        return Client(streamable_http_client(f"{server.url}{self.path}", http_client=self.http, terminate_on_close=False), cache=None)


def proxy(upstream: Upstream, client: Client) -> Server[Any]:
    """An MCP server that offers what `client`'s server offers, under its name and with its instructions."""

    async def list_tools(ctx: Context, params: Paged) -> types.ListToolsResult:
        return await upstream.call(lambda c: c.list_tools(cursor=_cursor(params)))

    async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        async with _passed_on(ctx.session.report_progress) as report:
            return await upstream.call(lambda c: c.call_tool(params.name, params.arguments, progress_callback=report))

    async def list_resources(ctx: Context, params: Paged) -> types.ListResourcesResult:
        return await upstream.call(lambda c: c.list_resources(cursor=_cursor(params)))

    async def list_templates(ctx: Context, params: Paged) -> types.ListResourceTemplatesResult:
        return await upstream.call(lambda c: c.list_resource_templates(cursor=_cursor(params)))

    async def read_resource(ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        return await upstream.call(lambda c: c.read_resource(params.uri))

    async def list_prompts(ctx: Context, params: Paged) -> types.ListPromptsResult:
        return await upstream.call(lambda c: c.list_prompts(cursor=_cursor(params)))

    async def get_prompt(ctx: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        return await upstream.call(lambda c: c.get_prompt(params.name, params.arguments))

    async def complete(ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        context = params.context.arguments if params.context else None
        return await upstream.call(lambda c: c.complete(params.ref, params.argument.model_dump(), context))

    offered = client.server_capabilities
    info = client.server_info or types.Implementation(name="recollect", version="")
    return Server(
        info.name,
        version=info.version,
        title=info.title,
        instructions=client.instructions,
        on_list_tools=list_tools if offered.tools else None,
        on_call_tool=call_tool if offered.tools else None,
        on_list_resources=list_resources if offered.resources else None,
        on_list_resource_templates=list_templates if offered.resources else None,
        on_read_resource=read_resource if offered.resources else None,
        on_list_prompts=list_prompts if offered.prompts else None,
        on_get_prompt=get_prompt if offered.prompts else None,
        on_completion=complete if offered.completions else None,
    )


@asynccontextmanager
async def _passed_on(report: ProgressFnT) -> AsyncGenerator[ProgressFnT]:
    """A callback whose every call reaches `report`, in order, before the block is left.

    The client runs each callback in a task of its connection, which ends with the result: one that waits there to write is cancelled.
    """
    parts: asyncio.Queue[Part | None] = asyncio.Queue()

    async def put(progress: float, total: float | None, message: str | None) -> None:
        parts.put_nowait((progress, total, message))

    async def pass_on() -> None:
        while (part := await parts.get()) is not None:
            await report(*part)

    passing = asyncio.create_task(pass_on())
    try:
        yield put
    finally:
        parts.put_nowait(None)
        await passing


def _cursor(params: Paged) -> str | None:
    return params.cursor if params else None
