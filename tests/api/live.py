"""The application behind a real socket, for what an in-process transport cannot show: streams in pieces, clients that leave."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from openai import AsyncOpenAI

from recollect.stores import LocalStore
from server.app import create_app
from server.engines.base import Engine
from tests.api.conftest import Served, settings_at, until


@asynccontextmanager
async def listening(
    home: Path, engine: Engine | None, store: LocalStore | None = None, /, **sections: dict[str, Any]
) -> AsyncGenerator[Served]:
    """The application on a free port of 127.0.0.1, ready. `engine` None: with memories alone; `store` None: that of the settings."""
    settings = settings_at(home, **sections, **({} if engine else {"engine": {"kind": "none"}}))
    app = create_app(settings, engine=engine, store=store)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:  # as `recollect serve` does it
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=5))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started or running.done())
        try:
            limits = httpx.Limits(max_connections=None)
            async with (
                httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http,
                AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as openai,
            ):
                served = Served(app, home, engine, http, openai)
                await until(lambda: served.service.adapters.settled)
                yield served
        finally:
            server.should_exit = True
            await running
