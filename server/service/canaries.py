"""Canaries are judged where their rewards arrive: every few seconds what is new in the log is read, and what it decides is done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Set as AbstractSet
from datetime import timedelta

from recollect.canary import Figures, OpenCanary, Session
from recollect.canary_judging import CanaryTrial, put_away
from recollect.errors import RecollectError
from recollect.memory import LOCAL_TENANT
from recollect.registry import Registry

logger = logging.getLogger(__name__)

LOOK_S = 5.0


class CanaryTrials:
    """The canaries of one pool. What is decided is written into the registry, which the adapters follow."""

    def __init__(self, registry: Registry, idle: timedelta, pool: str = LOCAL_TENANT) -> None:
        """`idle`: in which a session ends by itself."""
        self._registry = registry
        self._idle = idle
        self._pool = pool
        self._trials: dict[str, CanaryTrial] = {}
        self._figures: dict[tuple[str, int], Figures] = {}
        self._reading = asyncio.Lock()
        self._told = ""
        self._tidied = False

    def figures(self, policy: str, version: int) -> Figures:
        """What rewards said of a canary when it was looked at last."""
        return self._figures.get((policy, version), Figures())

    async def before(self, policy: str, one: OpenCanary) -> AbstractSet[Session] | None:
        """The sessions of its share that another version answered before the canary began, or since; None if the log cannot be read."""
        async with self._reading:
            trial = self._trial(policy, one)
            try:
                await asyncio.to_thread(trial.read)
            except (RecollectError, OSError) as exc:
                self._tell(f"{policy}@v{one.version} is no canary yet: {exc}")
                return None
            return frozenset(trial.rewards.before)

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self.look()
            except Exception as exc:  # noqa: BLE001 - the watcher must outlive whatever one look meets
                self._tell(f"canaries could not be judged: {type(exc).__name__}: {exc}")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Judge what there is now, and tidy up what was taken back. Raises RecollectError, OSError."""
        async with self._reading:
            await asyncio.to_thread(self._look)

    def _look(self) -> None:
        for policy in self._registry.known(self._pool):
            one, trial = self._registry.canary(policy, self._pool), self._trials.get(policy)
            if trial is not None and (one is None or one.version != trial.one.version):
                del self._trials[policy]
            if not self._tidied or (trial is not None and policy not in self._trials):
                put_away(self._registry, policy, self._pool)
            if one is not None:
                judged = self._trial(policy, one)
                judged.judge()
                self._figures[policy, one.version] = judged.figures
        self._tidied = True

    def _trial(self, policy: str, one: OpenCanary) -> CanaryTrial:
        trial = self._trials.get(policy)
        if trial is None or trial.one.version != one.version:
            trial = self._trials[policy] = CanaryTrial(self._registry, policy, one, self._idle, self._pool)
        return trial

    def _tell(self, text: str) -> None:
        if text != self._told:
            logger.warning("%s", text)
        self._told = text
