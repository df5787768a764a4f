"""Loading a version into the engine: it must fit, and answer the probes as its manifest says."""

from __future__ import annotations

import asyncio
from pathlib import PurePath

from recollect.errors import AdapterRefused
from recollect.manifest import Manifest
from recollect.policy import Policy
from recollect.registry import Registry
from server.engines.base import Engine
from server.engines.fingerprint import difference, fingerprint


class AdapterLoading:
    """Of one pool's versions, into one engine."""

    def __init__(self, engine: Engine, registry: Registry, *, max_rank: int, pool: str) -> None:
        self._engine = engine
        self._registry = registry
        self._max_rank = max_rank
        self._pool = pool

    async def load(self, policy: Policy) -> None:
        """Raises AdapterRefused for one that does not fit, or does not answer as its manifest says; EngineError."""
        assert policy.adapter is not None
        assert policy.version is not None
        manifest = await asyncio.to_thread(self._registry.verify, policy.adapter, policy.version, self._pool)
        self._check(manifest)
        path = str(self._registry.path(policy.adapter, policy.version, self._pool).resolve())
        if await self._mismatch(policy, path, manifest) is None:
            return
        # An attached engine may hold another adapter of this name, which a server left behind that was killed: load it afresh.
        if (reason := await self._mismatch(policy, path, manifest)) is not None:
            raise AdapterRefused(f"{policy.name} does not answer as its manifest says: {reason}", code="fingerprint_mismatch")

    async def _mismatch(self, policy: Policy, path: str, manifest: Manifest) -> str | None:
        """Load it and compare; what differs from the manifest, and then it is unloaded again."""
        await self._engine.load_adapter(policy, path)
        reason = difference(manifest.fingerprint, await fingerprint(self._engine, policy))
        if reason is not None:
            await self._engine.unload_adapter(policy)
        return reason

    def _check(self, manifest: Manifest) -> None:
        if not self._engine.exact:
            raise AdapterRefused(
                "this engine takes no adapters: it gives no token ids; use engine.kind=vllm or attach", param="engine.kind"
            )
        # By the last part of the path: a home may be moved, and the fingerprint tells other weights of the same name.
        if PurePath(manifest.base).name != PurePath(self._engine.base).name:
            raise AdapterRefused(f"trained on {manifest.base!r}, but the engine's base model is {self._engine.base!r}", param="base")
        if manifest.rank > self._max_rank:
            raise AdapterRefused(
                f"its rank is {manifest.rank}, the engine takes at most {self._max_rank}; raise engine.max_lora_rank", param="rank"
            )
