"""The providers of a plan, reached: an engine for each model that speaks chat completions, and whether each is well."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from recollect.errors import ConfigurationError, EngineError, RecollectError
from server.delegation.codex import is_installed
from server.delegation.plan import ChatProvider, CodexProvider, Plan
from server.delegation.routing import Target
from server.engines.base import Engine
from server.engines.connection import Connection
from server.engines.upstream import OpenAIUpstream

LOOK_S = 5.0


@dataclass(frozen=True, slots=True)
class ProviderState:
    """Whether a provider would answer, which of its models it has, and a word on why not."""

    name: str
    kind: str
    ready: bool
    detail: str
    models: tuple[str, ...]


class Providers:
    """Between the first call and `close` it holds connections."""

    def __init__(self, plan: Plan, environ: Mapping[str, str] = os.environ) -> None:
        """Raises ConfigurationError for a key that is in no environment variable."""
        self._plan = plan
        self._connections: dict[str, Connection] = {}
        self._engines: dict[Target, OpenAIUpstream] = {}
        for name, provider in plan.providers.items():
            if not isinstance(provider, ChatProvider):
                continue
            key = environ.get(provider.api_key_env, "") if provider.api_key_env else ""
            key = key.strip()
            if provider.api_key_env and not (key.isascii() and key.isprintable() and key):
                field = f"providers.{name}.api_key_env"
                raise ConfigurationError(f"{field}: the environment has no key of printable ASCII by that name", param=field)
            self._connections[name] = Connection(provider.url, api_key=key, timeout_s=LOOK_S)
            for model in provider.models:
                self._engines[Target(name, model)] = OpenAIUpstream(
                    provider.url, model, key, timeout_s=provider.timeout_s, key_setting=f"providers.{name}.api_key_env"
                )

    def engine(self, target: Target) -> Engine:
        """What answers chat completions for a model of a ChatProvider."""
        return self._engines[target]

    async def states(self, own_ready: bool) -> list[ProviderState]:
        """How all are, asked at once. `own_ready`: whether this server's own engine is."""
        return list(await asyncio.gather(*(self._state(name, own_ready) for name in self._plan.providers)))

    async def close(self) -> None:
        """Let go of the connections."""
        async with AsyncExitStack() as parts:
            for one in (*self._engines.values(), *self._connections.values()):
                parts.push_async_callback(one.close)

    async def _state(self, name: str, own_ready: bool) -> ProviderState:
        provider = self._plan.providers[name]
        models = tuple(provider.models)
        if isinstance(provider, CodexProvider):
            there = is_installed(provider)
            detail = f"{provider.sandbox} in {len(provider.folders)} folders" if there else f"{provider.command} is not installed"
            return ProviderState(name, provider.kind, there, detail, models)
        if not isinstance(provider, ChatProvider):
            return ProviderState(name, provider.kind, own_ready, "this server" if own_ready else "its engine is not ready", models)
        try:
            listed = _names(await self._connections[name].get_json("/v1/models", timeout_s=LOOK_S))
        except RecollectError as exc:
            return ProviderState(name, provider.kind, False, exc.message, ())
        there = tuple(model for model in models if model in listed)
        missing = [model for model in models if model not in listed]
        return ProviderState(name, provider.kind, bool(there), f"it has no {', '.join(missing)}" if missing else "it answers", there)


class _Card(BaseModel):
    id: str


class _Listed(BaseModel):
    data: list[_Card]


def _names(found: Any) -> set[str]:
    """The ids of a list of models. Raises EngineError for what is none."""
    try:
        return {card.id for card in _Listed.model_validate(found).data}
    except ValidationError as exc:
        raise EngineError("it lists its models in no form of OpenAI's API") from exc
