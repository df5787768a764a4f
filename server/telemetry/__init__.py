"""OpenTelemetry: imported only where `telemetry.otlp_endpoint` is set, because its libraries take a tenth of a second and 10 MB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recollect.settings import Settings

if TYPE_CHECKING:
    from server.telemetry.otlp import Telemetry

PROVIDERS = {"vllm": "vllm", "attach": "vllm", "openai": "openai", "scripted": "recollect", "none": "recollect"}
"""`gen_ai.provider.name` by `engine.kind`. `openai`: whoever speaks that API."""


def open_telemetry(settings: Settings, version: str) -> Telemetry | None:
    """Traces and metrics to the receiver of the settings; None if they name none."""
    if not settings.telemetry.otlp_endpoint:
        return None
    from server.telemetry.otlp import Telemetry

    return Telemetry(settings.telemetry, version=version, provider=PROVIDERS[settings.engine.kind])
