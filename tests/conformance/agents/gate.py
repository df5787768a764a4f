"""Every place at which a run can be stopped or can fail: each piece of the engine, each call of the store, each embedding.

All are counted in one row, so that a test can take them one after the other. Around real parts: a LanceDB store, the hash embedder.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from memory_store.embedders.base import Vectors
from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from server.engines.scripted import ScriptedCall, ScriptedEngine


@dataclass(slots=True)
class Gate:
    """`passed` names what was passed since it was armed, such as `engine`, `embedder`, `apply` and `apply done`."""

    passed: list[str] = field(default_factory=list[str])
    stop_at: int | None = None
    place: str = ""
    error: BaseException | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def arm(self, stop_at: int | None = None, place: str = "", error: BaseException | None = None) -> None:
        """Count from here; at the `stop_at`-th (from 0) of all places, or of those called `place`, stand still or fail with `error`."""
        self.passed, self.stop_at, self.place, self.error = [], stop_at, place, error
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    async def pass_by(self, place: str) -> None:
        self.passed.append(place)
        found = self.passed.count(place) if self.place else len(self.passed)
        if self.place not in ("", place) or found - 1 != self.stop_at:
            return
        self.reached.set()
        if self.error is not None:
            raise self.error
        await self.opened.wait()


class GatedStore:
    """A store whose coroutines pass the gate before and after they are made."""

    def __init__(self, store: LanceMemoryStore, gate: Gate) -> None:
        self.real = store
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if not inspect.iscoroutinefunction(found) or name == "close":
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            await self._gate.pass_by(name)
            value = await found(*arguments, **named)
            await self._gate.pass_by(f"{name} done")
            return value

        return call


class GatedEmbedder(HashEmbedder):
    """The hash embedder behind the gate."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    async def embed(self, texts: Sequence[str]) -> Vectors:
        await self._gate.pass_by("embedder")
        return await super().embed(texts)


@dataclass(slots=True)
class GatedEngine(ScriptedEngine):
    """The scripted engine: `call` before each call, `engine` before each of its pieces; `garbled` is the number of a call that
    is answered with `garbage`."""

    gate: Gate = field(default_factory=Gate)
    garbled: int | None = None
    garbage: str = ""

    async def _wait(self, number: int) -> None:
        await self.gate.pass_by("engine" if number else "call")
        await ScriptedEngine._wait(self, number)

    def _choice(self, call: ScriptedCall) -> Any:
        if self.garbled is not None and len(self.calls) - 1 == self.garbled:
            answer, self.answer = self.answer, lambda _: self.garbage
            try:
                return ScriptedEngine._choice(self, call)
            finally:
                self.answer = answer
        return ScriptedEngine._choice(self, call)
