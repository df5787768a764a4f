"""A run on a home for a command: the engine that is at hand, and whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from recollect.settings import Settings
from trainer.config import TrainConfig
from trainer.inputs import LogInput
from trainer.progress import Listener
from trainer.result import TrainResult
from trainer.running_engine import running_engine

Listening = Callable[[], AbstractContextManager[Listener]]
"""Opens what shows a run's progress."""


def run_of(config: TrainConfig, settings: Settings, engine_url: str | None, log: LogInput, listening: Listening, **how: Any) -> TrainResult:
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
