"""The engine of an evaluation, and the policies in it: each published version under a name of this evaluation's own."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from recollect.errors import ConfigurationError, EngineUnavailable
from recollect.policy import Policy
from recollect.registry import Registry
from recollect.settings import Settings
from server.engines.base import Engine
from server.engines.choose import open_engine
from server.engines.vllm import VllmEngine
from trainer.suites.contender import version_of

POLL_S = 0.5


@asynccontextmanager
async def opened_engine(settings: Settings, url: str | None) -> AsyncGenerator[Engine]:
    """The engine at `url`, else that of the server running on the home, else the one of the settings, started for this run.

    Raises EngineUnavailable if it is not ready in `engine.start_timeout_s`, ConfigurationError if the settings name none.
    """
    engine = _engine(settings, url or _running(settings.home))
    try:
        await engine.start()
        await _ready(engine, settings.engine.start_timeout_s)
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def loaded(engine: Engine, names: Sequence[str], registry: Registry) -> AsyncGenerator[dict[str, Policy]]:
    """What samples under each name. A version is loaded under a candidate's name and unloaded at the end: the name `<policy>@v<N>`
    belongs to the server, which may be serving from this engine.

    Raises AdapterRefused, EngineError.
    """
    run, found = f"eval{secrets.token_hex(4)}", dict[str, Policy]()
    try:
        for name in names:
            version = version_of(name)
            if version is None:
                found[name] = Policy(base=engine.base)
                continue
            await asyncio.to_thread(registry.verify, *version)
            policy = Policy(base=engine.base, adapter=version[0], candidate=f"{run}.{version[1]}")
            await engine.load_adapter(policy, str(registry.path(*version).resolve()))
            found[name] = policy
        yield found
    finally:
        for policy in found.values():
            if policy.adapter is not None:
                await engine.unload_adapter(policy)


def _engine(settings: Settings, url: str | None) -> Engine:
    if url:
        model = Path(settings.engine.model_path)
        return VllmEngine(url, max_lora_rank=settings.engine.max_lora_rank, model_path=model if model.is_dir() else None)
    logs = settings.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    engine = open_engine(settings.engine, log_dir=logs)
    if engine is None:
        raise ConfigurationError("engine.kind is none; set engine.kind, or give --engine-url", param="engine.kind")
    return engine


async def _ready(engine: Engine, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not (health := await engine.health()).ready:
        if time.monotonic() > end:
            raise EngineUnavailable(f"the engine is not ready: {health.detail}")
        await asyncio.sleep(POLL_S)


def _running(home: Path) -> str | None:
    """The engine's URL, as the server that runs on the home wrote it down. A server that was killed leaves its file behind."""
    try:
        server = json.loads((home / "server.json").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return server.get("engine_url") if psutil.pid_exists(int(server.get("pid", 0))) else None
