"""Conversations that many tasks are asked of: each contender is told them once a repeat, and every question begins on what it remembered.

Telling 600 turns again for each of 150 questions would cost 150 times as much and measure the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from recollect.policy import Policy
from recollect.trajectory import MemoryOp, Usage
from server.engines.base import Sampling
from trainer.environments.base import Told
from trainer.environments.tasks import Task
from trainer.rollout import Rollouts
from trainer.suites.contender import OWN, Contender
from trainer.suites.results import Conversation, Key

OPERATIONS = ("add", "update", "delete", "noop", "not applied", "ill-formed")


class _Of(NamedTuple):
    """Which telling it is."""

    contender: Contender
    digest: str
    repeat: int


@dataclass(slots=True)
class Tellings:
    """The conversations of the runs that are left. One is let go of when the last of its questions was answered."""

    rollouts: Rollouts
    policies: Mapping[str, Policy]
    sampling: Sampling
    seed: int
    note: Callable[[Conversation], None]
    _digests: dict[str, str] = field(default_factory=dict[str, str])
    _left: Counter[_Of] = field(default_factory=Counter[_Of])
    _told: dict[_Of, asyncio.Task[Told]] = field(default_factory=dict[_Of, "asyncio.Task[Told]"])

    def expect(self, runs: Iterable[tuple[Key, Task]]) -> None:
        """Take note of the runs that are to come."""
        for key, task in runs:
            if of := self._of(key, task):
                self._left[of] += 1

    async def of(self, key: Key, task: Task) -> Told | None:
        """What a run begins from; None where nothing was said before its question."""
        of = self._of(key, task)
        if of is None:
            return None
        if of not in self._told:
            self._told[of] = asyncio.create_task(self._tell(of, task))
        return await asyncio.shield(self._told[of])

    def done(self, key: Key, task: Task) -> None:
        """The run has ended."""
        if of := self._of(key, task):
            self._left[of] -= 1
            if not self._left[of]:
                self._told.pop(of, None)

    async def close(self) -> None:
        """Stop what is being told."""
        for told in self._told.values():
            told.cancel()
        await asyncio.gather(*self._told.values(), return_exceptions=True)

    def _of(self, key: Key, task: Task) -> _Of | None:
        if not task.memories and not task.conversation:
            return None
        if task.id not in self._digests:
            said = task.model_dump_json(include={"namespace", "as_of", "agent", "memories", "conversation"})
            self._digests[task.id] = hashlib.sha256(said.encode()).hexdigest()
        return _Of(key.contender, self._digests[task.id], key.repeat)

    async def _tell(self, of: _Of, task: Task) -> Told:
        asked = task if of.contender.agent == OWN else task.model_copy(update={"agent": of.contender.agent})
        sampling = replace(self.sampling, seed=zlib.crc32(f"{self.seed}/{of.digest}/{of.repeat}".encode()))
        told = await self.rollouts.tell(asked, self.policies[of.contender.policy], sampling)
        self.note(await _conversation(of, task, told))
        return told


async def _conversation(of: _Of, task: Task, told: Told) -> Conversation:
    """The figures of one telling."""
    used = sum((step.usage for step in told.steps), Usage())
    ops = Counter(_kind(op) for step in told.steps for op in step.memory_ops)
    memories = 0
    while page := len(await told.memory.list(task.namespace, limit=1_000, offset=memories)):
        memories += page
    return Conversation(
        agent=of.contender.agent,
        policy=of.contender.policy,
        conversation=of.digest,
        repeat=of.repeat,
        turns=len(task.conversation) or len(task.memories),
        memories=memories,
        operations={kind: ops[kind] for kind in OPERATIONS},
        calls=sum(step.policy is not None for step in told.steps),
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        seconds=told.seconds,
        error=told.error,
    )


def _kind(op: MemoryOp) -> str:
    if not op.well_formed:
        return "ill-formed"
    return op.op if op.applied else "not applied"
