"""An application behind a real socket on loopback, in this process: what a client of HTTP sees, with an engine of the caller's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette


@asynccontextmanager
async def listening(app: Starlette) -> AsyncGenerator[str]:
    """Serve the application until the block ends; yields its URL once it is up. Raises RuntimeError if it did not come up."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:  # as `recollect serve` does it
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=5))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:  # uvicorn has no event for it
                if running.done():
                    raise RuntimeError("the application did not start")
                await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running
