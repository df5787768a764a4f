"""The application behind a real socket, for what an in-process transport cannot show: streams in pieces, clients that leave."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from openai import AsyncOpenAI

from benchmarks.listening import listening as listening_app
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
    async with (
        listening_app(app) as url,
        httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=None)) as http,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as openai,
    ):
        served = Served(app, home, engine, http, openai)
        await until(lambda: served.service.adapters.settled)
        yield served
