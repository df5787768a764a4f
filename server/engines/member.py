"""One engine of a pool: how busy it is, whether it is up, and what was loaded into it."""

from __future__ import annotations

import time
from contextlib import suppress

from recollect.errors import EngineUnavailable
from recollect.policy import Policy
from server.engines.base import Engine, Health
from server.engines.breaker import Breaker, Clock

MISSES = 2
"""So many health checks in a row fail before it rests: a busy engine may miss one, and then still answers."""


class Member:
    """`number`: its place in the pool, by which it is known if it has no URL."""

    def __init__(self, engine: Engine, number: int, clock: Clock = time.monotonic) -> None:
        self.engine = engine
        self.name = str(getattr(engine, "url", f"engine {number}")).encode()
        self.in_flight = 0
        self.breaker = Breaker(clock)
        self.loaded: set[str] = set()
        self._leftover: dict[str, Policy] = {}
        """What it may hold still, because it was out of reach when that was unloaded."""
        self._misses = 0

    def lost(self) -> None:
        """It was out of reach: count on nothing that was loaded."""
        self.loaded.clear()

    async def heard(self, health: Health) -> None:
        """It was asked how it is. One that was out of reach and is ready again need not rest any longer."""
        if health.ready:
            if self._misses:
                self.breaker.close()
            self._misses = 0
            await self._tidy()
            return
        self._misses += 1
        self.lost()
        if self._misses >= MISSES:
            self.breaker.trip()

    async def load(self, policy: Policy, path: str) -> None:
        """Load an adapter. Raises EngineUnavailable, AdapterRefused."""
        self._leftover.pop(policy.name, None)
        await self._tidy()
        try:
            with self.breaker.attempt():
                await self.engine.load_adapter(policy, path)
        except EngineUnavailable:
            self.lost()
            raise
        self.loaded.add(policy.name)

    async def unload(self, policy: Policy) -> None:
        """Forget an adapter, on its return if it is out of reach."""
        self.loaded.discard(policy.name)
        try:
            await self.engine.unload_adapter(policy)
        except EngineUnavailable:
            self._leftover[policy.name] = policy

    async def _tidy(self) -> None:
        """Let it forget what it could not when that was unloaded."""
        for name, policy in list(self._leftover.items()):
            with suppress(EngineUnavailable):
                await self.engine.unload_adapter(policy)
                del self._leftover[name]
