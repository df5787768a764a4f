"""Candidates of a run in the engine: a new version is loaded before the old one is unloaded, two at once at most."""

from __future__ import annotations

import asyncio
import shutil
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
        self.updates: dict[str, int] = {self.policy.name: 0}
        """After how many updates each policy was saved."""

    def folder(self, policy: Policy) -> Path:
        """Where a candidate's files lie."""
        return self._folder / policy.name

    async def begin(self, parent: Path | None) -> Policy:
        """Load what the run begins with: the parent version as candidate 0, or the base model as it is."""
        if parent is not None:
            await self.sync()
        return self.policy

    async def sync(self) -> Policy:
        """Save what was learned, load it, let go of the one before. Raises AdapterRefused, EngineError, OSError."""
        count = self._learner.updates
        policy = Policy(base=self._engine.base, adapter=self._alias, candidate=f"{self._run_id}.{count}")
        if policy == self.policy:
            return policy
        folder = await asyncio.to_thread(save_candidate, self._learner, self.folder(policy))
        await self._engine.load_adapter(policy, str(folder.resolve()))
        before, self.policy = self.policy, policy
        self.updates[policy.name] = count
        await self._let_go(before)
        return policy

    async def close(self) -> None:
        """Unload the newest one. Its files stay."""
        if self.policy.adapter is not None:
            await self._engine.unload_adapter(self.policy)

    async def _let_go(self, policy: Policy) -> None:
        if policy.adapter is None:
            return
        await self._engine.unload_adapter(policy)
        await asyncio.to_thread(shutil.rmtree, self.folder(policy))
