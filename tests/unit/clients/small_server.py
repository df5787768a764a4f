"""A small server to shim to: a real MCPServer at /mcp, /health, and the home's server.json. Run as a module with the home."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route


class Told(BaseModel):
    """What `tell` answers."""

    text: str
    pid: int
    authorization: str | None


def build(home: Path) -> Starlette:
    """The application."""
    mcp = MCPServer("small", version="1.2", instructions="Be brief.", log_level="WARNING")

    @mcp.tool()
    async def tell(text: str, ctx: Context) -> Told:
        """Say it again."""
        request = ctx.request_context.request
        authorization = request.headers.get("authorization") if request else None
        return Told(text=text, pid=os.getpid(), authorization=authorization)

    @mcp.tool()
    async def slow(ctx: Context) -> dict[str, int]:
        """Report progress."""
        for part in range(1, 21):
            await ctx.report_progress(part, 20, f"part {part}")
        return {"parts": 20}

    @mcp.tool()
    async def fail() -> dict[str, int]:
        """Fail with a reason."""
        raise ToolError("no such memory")

    @mcp.tool()
    async def vanish() -> dict[str, int]:
        """Die in the middle of the call."""
        os._exit(1)

    @mcp.resource("notes://{name}")
    def note(name: str) -> str:
        """A note."""
        return f"note {name}"

    @mcp.prompt()
    def greet(name: str) -> str:
        """A greeting."""
        return f"Greet {name}."

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with mcp.session_manager.run():
            yield

    inner = mcp.streamable_http_app(stateless_http=True)
    return Starlette(routes=[Route("/health", health), Mount("/", inner)], lifespan=lifespan)


def main() -> None:
    """Serve on a free port; each start adds a line to `starts`."""
    home = Path(os.environ["RECOLLECT_HOME"])
    with (home / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        (home / "server.json").write_text(json.dumps({"pid": os.getpid(), "url": url, "engine_url": None}))
        uvicorn.Server(uvicorn.Config(build(home), log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
