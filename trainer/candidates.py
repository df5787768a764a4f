"""Candidates of a run in the engine: a new version is loaded before the old one is unloaded, and one that is held stays."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from recollect.policy import Policy
from server.engines.base import Engine
from trainer.publish import save_candidate
from trainer.trl_bridge import Learner


class Candidates:
    """Which policy rollouts sample from, from the run's beginning to its newest candidate."""

    def __init__(self, engine: Engine, learner: Learner, folder: Path, *, alias: str, run_id: str) -> None:
        self._engine = engine
        self._learner = learner
        self._folder = folder
        self._alias = alias
        self._run_id = run_id
        self.policy = Policy(base=engine.base)
        """The newest one that is loaded; before the first, the base model."""
        self._holders = Counter[str]()

    def updates_of(self, name: str) -> int:
        """After how many updates the policy of that name was saved."""
        candidate = Policy.parse(name, base=self._engine.base).candidate
        return int(candidate.rpartition(".")[2]) if candidate else 0

    def folder(self, policy: Policy) -> Path:
        """Where a candidate's files lie."""
        return self._folder / policy.name

    async def begin(self, parent: Path | None) -> Policy:
        """Load what the run begins with: the parent version as candidate 0, or the base model as it is; of a run that goes on
        the newest candidate, and let go of those that it had loaded when it died."""
        if parent is not None or self._learner.updates:
            await self._load()
        for leftover in sorted(self._folder.glob("[!.]*@*")):
            if leftover.name != self.policy.name:
                await self._let_go(Policy.parse(leftover.name, base=self._engine.base))
        return self.policy

    async def sync(self, *, every: int = 1) -> Policy:
        """Save what was learned, load it, let go of the one before, if so many updates were made since it.

        Raises AdapterRefused, EngineError, OSError.
        """
        if self._learner.updates - self.updates_of(self.policy.name) >= every:
            await self._load()
        return self.policy

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[Policy]:
        """The newest one; it stays loaded until nobody holds it."""
        policy = self.policy
        self._holders[policy.name] += 1
        try:
            yield policy
        finally:
            self._holders[policy.name] -= 1
            if policy.name != self.policy.name:
                await self._let_go(policy)

    async def _load(self) -> None:
        policy = Policy(base=self._engine.base, adapter=self._alias, candidate=f"{self._run_id}.{self._learner.updates}")
        folder = self.folder(policy)
        if not folder.exists():
            await asyncio.to_thread(save_candidate, self._learner, folder)
        await self._engine.load_adapter(policy, str(folder.resolve()))
        before, self.policy = self.policy, policy
        await self._let_go(before)

    async def close(self) -> None:
        """Unload all that may be loaded: one whose loading was broken off, too. Their files stay."""
        for folder in sorted(self._folder.glob("[!.]*@*")):
            await self._engine.unload_adapter(Policy.parse(folder.name, base=self._engine.base))

    async def _let_go(self, policy: Policy) -> None:
        if policy.adapter is None or self._holders[policy.name]:
            return
        await self._engine.unload_adapter(policy)
        await asyncio.to_thread(shutil.rmtree, self.folder(policy))
