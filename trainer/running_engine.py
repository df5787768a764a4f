"""The engine that a trainer works with: that of the server which runs on the home, or another one by its URL."""

from __future__ import annotations

import json
from pathlib import Path

from recollect.errors import ConfigurationError
from recollect.settings import Settings
from server.engines.vllm import VllmEngine


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
