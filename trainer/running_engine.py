"""The engine that a trainer works with, that of the server which runs on the home or another one by its URL, and a run against it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from recollect.errors import ConfigurationError
from recollect.settings import Settings
from server.engines.vllm import VllmEngine
from trainer.config import TrainConfig
from trainer.inputs import LogInput
from trainer.progress import Listener
from trainer.result import TrainResult

Listening = Callable[[], AbstractContextManager[Listener]]
"""Opens what shows a run's progress."""


def running_engine(settings: Settings, url: str | None) -> VllmEngine:
    """A client of the engine. Raises ConfigurationError if no server runs on the home and no URL is given."""
    model = Path(settings.engine.model_path)
    return VllmEngine(
        url or _of_server(settings.home), max_lora_rank=settings.engine.max_lora_rank, model_path=model if model.is_dir() else None
    )


def _of_server(home: Path) -> str:
    """The engine's URL, as the running server wrote it down."""
    try:
        url = json.loads((home / "server.json").read_text("utf-8")).get("engine_url")
    except (FileNotFoundError, ValueError):
        url = None
    if not url:
        raise ConfigurationError(
            f"no server with an engine runs on home {home}; start one (recollect serve) or give --engine-url", param="engine-url"
        )
    return str(url)


def run_here(
    config: TrainConfig, settings: Settings, engine_url: str | None, log: LogInput, listening: Listening, **how: Any
) -> TrainResult:
    """Train against the running engine. `how` is handed to `train`. Raises what that does, ConfigurationError without an engine."""
    return asyncio.run(_run(config, settings, engine_url, log, listening, **how))


async def _run(
    config: TrainConfig, settings: Settings, engine_url: str | None, log: LogInput, listening: Listening, **how: Any
) -> TrainResult:
    # Imported here: torch takes seconds, and that there is nothing to do is told before.
    from trainer.loop import train

    engine = running_engine(settings, engine_url)
    try:
        with listening() as listen:
            return await train(config, settings, engine, log=log, listen=listen, **how)
    finally:
        await engine.close()
