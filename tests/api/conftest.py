"""The application over a scripted engine and the real store, with a real `openai` client in front of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from recollect.events import LoggedTrajectory
from recollect.log import read_log
from recollect.settings import Settings as AllSettings
from recollect.settings_read import parse
from recollect.stores import LocalStore
from server.app import create_app
from server.engines.scripted import ScriptedEngine
from server.service import Service

BASE = "http://127.0.0.1:8000"


async def until(true: Callable[[], bool | Awaitable[bool]], *, timeout_s: float = 60.0) -> None:
    """Wait until `true` is."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = true()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < deadline, "it did not become true in time"
        await asyncio.sleep(0.005)


@dataclass(frozen=True, slots=True)
class Served:
    """An application that serves."""

    app: FastAPI
    home: Path
    engine: Any
    http: httpx.AsyncClient
    openai: AsyncOpenAI

    @property
    def service(self) -> Service:
        return self.app.state.service

    async def logged(self) -> list[LoggedTrajectory]:
        """What the log tells, once everything pending is written."""
        await until(lambda: len(self.service.chat.pending) == 0)
        return read_log(self.home / "trajectories", strict=True).trajectories

    async def ask(self, text: str, **more: Any) -> dict[str, Any]:
        """The body of a plain answer."""
        body = {"model": "memory", "messages": [{"role": "user", "content": text}], **more}
        answer = await self.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


def settings_at(home: Path, **sections: dict[str, Any]) -> AllSettings:
    """Settings without an embedder, on `home`."""
    values: dict[str, Any] = {"home": str(home), "embedder": {"kind": "none"}, "agents": {"prompts": "compact"}}
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return parse(AllSettings, values)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """The lifespan in a task of its own: a fixture's two halves run in different tasks, which its scopes do not allow."""
    started, ended = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.router.lifespan_context(app):
            started.set()
            await ended.wait()

    living = asyncio.create_task(live())
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait((living, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        if started.is_set():
            yield
    finally:
        ended.set()
        await living


@asynccontextmanager
async def serving(
    home: Path,
    engine: ScriptedEngine | None = None,
    *,
    kind: str = "vllm",
    waits: bool = True,
    store: LocalStore | None = None,
    sees: bool = False,
    **sections: dict[str, Any],
) -> AsyncGenerator[Served]:
    """An application on `home`, its lifespan running, ready if it `waits`. `kind` none: without an engine; `store` None: that of the
    settings."""
    engine = engine or ScriptedEngine()
    app = create_app(
        settings_at(home, engine={"kind": kind, "vision": sees}, **sections), engine=None if kind == "none" else engine, store=store
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_lifespan(app))
        http = await stack.enter_async_context(httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=BASE))
        openai = AsyncOpenAI(
            base_url=f"{BASE}/v1", api_key="none", max_retries=0, http_client=httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
        )
        stack.push_async_callback(openai.close)
        served = Served(app, home, engine, http, openai)
        if waits:
            await until(lambda: served.service.adapters.settled)
        yield served


@pytest.fixture
async def served(tmp_path: Path) -> AsyncGenerator[Served]:
    async with serving(tmp_path / "home") as running:
        yield running
