"""Which engine the settings ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recollect.errors import ConfigurationError
from recollect.settings import EngineSettings
from server.engines.base import Engine
from server.engines.child import VllmChild
from server.engines.from_memory import from_memory
from server.engines.pool import EnginePool
from server.engines.scripted import ScriptedEngine
from server.engines.upstream import OpenAIUpstream
from server.engines.vllm import VllmEngine


def open_engine(settings: EngineSettings, *, log_dir: Path, report: Callable[[str], None] | None = None) -> Engine | None:
    """The engine, not started yet; None for kind none. ConfigurationError at once if the settings cannot work."""
    _check_rest(settings)
    match settings.kind:
        case "vllm":
            return VllmChild(settings, log_dir, report)
        case "attach":
            return EnginePool([_attached(url, settings) for url in settings.urls])
        case "openai":
            return _upstream(settings)
        case "scripted":
            return ScriptedEngine(answer=from_memory, window=None, piece_tokens=16, recorded=False, rests=settings.rest)
        case "none":
            return None


def open_fallback(settings: EngineSettings) -> OpenAIUpstream | None:
    """What answers while the engine rests; None where nothing does. ConfigurationError if the settings cannot work."""
    found = settings.fallback
    if not found.url:
        return None
    if not found.model:
        raise ConfigurationError("engine.fallback.url needs engine.fallback.model, the model's name there", param="engine.fallback.model")
    key_setting = "engine.fallback.api_key"
    return OpenAIUpstream(found.url, found.model, found.api_key, timeout_s=settings.request_timeout_s, key_setting=key_setting)


def _attached(url: str, settings: EngineSettings) -> VllmEngine:
    return VllmEngine(
        url,
        base=settings.model,
        api_key=settings.api_key,
        timeout_s=settings.request_timeout_s,
        max_lora_rank=settings.max_lora_rank,
        rests=settings.rest,
    )


def _check_rest(settings: EngineSettings) -> None:
    """Raises ConfigurationError for a rest that the kind of engine cannot take."""
    if settings.rest == "none" or settings.kind in ("vllm", "scripted"):
        return
    if settings.kind == "attach":
        if settings.rest == "stop":
            raise ConfigurationError(
                "engine.rest=stop: this server neither starts nor ends engines of kind attach; set engine.rest=sleep", param="engine.rest"
            )
        return
    raise ConfigurationError(
        f"engine.rest={settings.rest}: engine.kind={settings.kind} never rests; set engine.rest=none", param="engine.rest"
    )


def _upstream(settings: EngineSettings) -> Engine:
    if not settings.model:
        raise ConfigurationError("engine.kind=openai needs engine.model, the name that the server knows the model by", param="engine.model")
    upstreams = [OpenAIUpstream(url, settings.model, settings.api_key, timeout_s=settings.request_timeout_s) for url in settings.urls]
    return upstreams[0] if len(upstreams) == 1 else EnginePool(upstreams)
