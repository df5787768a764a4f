"""Engines that can rest: while one does, its device is free for a trainer, and nothing is asked of it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from recollect.settings import Rest


@runtime_checkable
class Rests(Protocol):
    """What an engine that can rest has besides. `rest` and `wake` are called in turn, and no request is in flight then."""

    @property
    def rests(self) -> Rest:
        """How it rests; `none`: not at all."""
        ...

    async def rest(self) -> None:
        """Let go of the device. Raises EngineError if it does not, and then it goes on as before."""
        ...

    async def wake(self) -> None:
        """Begin to come back; `health` tells when it has. Raises EngineError if that cannot even begin."""
        ...


def rest_of(engine: object) -> Rest:
    """How an engine rests; `none` for one that cannot."""
    return engine.rests if isinstance(engine, Rests) else "none"
