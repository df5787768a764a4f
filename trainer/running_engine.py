"""The engine that a trainer works with, that of the server which runs on the home or another one by its URL, and a run against it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from recollect.errors import ConfigurationError
from recollect.settings import Settings
from server.engines.base import Engine
from server.engines.pool import EnginePool
from server.engines.vllm import VllmEngine
from trainer.config import TrainConfig
from trainer.device import Device, Shared, server_of
from trainer.inputs import LogInput
from trainer.progress import Listener
from trainer.result import TrainResult

Listening = Callable[[], AbstractContextManager[Listener]]
"""Opens what shows a run's progress."""


def running_engine(settings: Settings, urls: Sequence[str]) -> Engine:
    """A client of the engine, or of several as one. Raises ConfigurationError if no server runs on the home and no URL is given."""
    path, rank = Path(settings.engine.model_path), settings.engine.max_lora_rank
    model = path if path.is_dir() else None
    # what is served goes first: nobody waits for a rollout
    engines = [VllmEngine(url, max_lora_rank=rank, model_path=model, behind=True) for url in urls or _of_server(settings.home)]
    return engines[0] if len(engines) == 1 else EnginePool(engines)


def _of_server(home: Path) -> list[str]:
    """The URLs of all engines, as the running server wrote them down."""
    server = server_of(home)
    urls: list[str] = server.get("engine_urls") or [url for url in (server.get("engine_url"),) if url]
    if not urls:
        raise ConfigurationError(
            f"no server with an engine runs on home {home}; start one (recollect serve) or give --engine-url", param="engine-url"
        )
    return urls


def run_here(
    config: TrainConfig, settings: Settings, engine_urls: Sequence[str], log: LogInput, listening: Listening, **how: Any
) -> TrainResult:
    """Train against the running engine. `how` is handed to `train`. Raises what that does, ConfigurationError without an engine."""
    return asyncio.run(_run(config, settings, engine_urls, log, listening, **how))


async def _run(
    config: TrainConfig, settings: Settings, engine_urls: Sequence[str], log: LogInput, listening: Listening, **how: Any
) -> TrainResult:
    # Imported here: torch takes seconds, and that there is nothing to do is told before.
    from trainer.loop import train

    engine, device = running_engine(settings, engine_urls), None
    if config.optimisation.engine == "rests":
        engine, device = _sharing(settings.home, engine_urls, engine)
    try:
        with listening() as listen:
            return await train(config, settings, engine, log=log, listen=listen, device=device, **how)
    finally:
        await engine.close()


def _sharing(home: Path, engine_urls: Sequence[str], engine: Engine) -> tuple[Engine, Device]:
    """The engines, which are given their adapters again after each rest, and the device that they share."""
    if engine_urls:
        raise ConfigurationError(
            "optimisation.engine=rests: the engine that rests is that of the home's server; leave --engine-url out", param="engine-url"
        )
    pool = engine if isinstance(engine, EnginePool) else EnginePool([engine])
    return pool, Shared(home, _of_server(home), pool.reload)
