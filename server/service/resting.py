"""The engine's rests: while a trainer uses its device nothing is asked of it, and it comes back by itself if the trainer does not say so.

A rest has a lease. Whoever asked for it asks again before that is over; if nobody does, the engine is woken.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Literal, get_args

from recollect.errors import Conflict, EngineError, EngineUnavailable, RecollectError
from recollect.model import Frozen
from recollect.settings import EngineSettings, Rest
from server.adapters import Adapters
from server.engines.base import Engine
from server.engines.rests import Rests, rest_of

logger = logging.getLogger(__name__)

Phase = Literal["awake", "draining", "resting", "waking"]
Reason = Literal["training", "maintenance"]
REASONS: tuple[Reason, ...] = get_args(Reason)
FIRST_ESTIMATE_S = 60.0
"""How long a rest takes, before there was one."""
REMEMBERED = 5
LATE_S = 5
"""After which to ask again where a rest takes longer than those before it."""
LOOK_S = 0.05
TRY_AGAIN_S = 10.0
"""Until the server tries again to wake an engine that could not be woken."""
CLOSING_DRAIN_S = 10.0
"""How long an answer that was ended may take to be told and logged."""


class RestState(Frozen):
    """Whether the engine rests. `mode`: how it would; `left_s`: until it is woken by itself; `retry_after_s`: what clients are told."""

    phase: Phase = "awake"
    mode: Rest = "none"
    reason: Reason | None = None
    since_s: float | None = None
    left_s: float | None = None
    retry_after_s: int | None = None


class Resting:
    """One engine's rests, one at a time."""

    def __init__(
        self, engine: Engine, adapters: Adapters, settings: EngineSettings, *, end_answers: Callable[[RecollectError], None]
    ) -> None:
        """`end_answers` ends every answer that is in progress with the error that it is given."""
        self._engine = engine
        self._adapters = adapters
        self._kind = settings.kind
        self._drain_s = settings.rest_drain_s
        self._start_timeout_s = settings.start_timeout_s
        self._end_answers = end_answers
        self._phase: Phase = "awake"
        self._reason: Reason | None = None
        self._began_at = 0.0
        self._ends_at = math.inf
        self._lease: asyncio.TimerHandle | None = None
        self._took = deque[float](maxlen=REMEMBERED)
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[RestState]] = set()

    @property
    def state(self) -> RestState:
        """How it stands."""
        mode = rest_of(self._engine)
        if self._phase == "awake":
            return RestState(mode=mode)
        now = time.monotonic()
        left = None if math.isinf(self._ends_at) else round(max(0.0, self._ends_at - now), 1)
        since = round(now - self._began_at, 1)
        return RestState(
            phase=self._phase, mode=mode, reason=self._reason, since_s=since, left_s=left, retry_after_s=self._unavailable().retry_after_s
        )

    async def rest(self, reason: Reason, lease_s: float, drain_s: float | None = None, *, renew: bool = False) -> RestState:
        """Let the engine rest for `lease_s` seconds, or if it rests already, for so long from now on. `renew`: only if it does.

        No request is begun any more; answers in progress have `drain_s` (None: what the settings say) to end. Raises Conflict for an
        engine that cannot rest or rests no more, EngineUnavailable, EngineError; then it answers as before.
        """
        if not isinstance(self._engine, Rests) or self._engine.rests == "none":
            raise Conflict(self._why_never(), param="engine.rest", code="engine_cannot_rest")
        engine = self._engine

        async def rest() -> RestState:
            async with self._changing:
                if self._phase == "awake":
                    if renew:
                        raise Conflict("the engine does not rest any more: it was woken, or started anew", param="renew")
                    await self._lie_down(engine, reason, self._drain_s if drain_s is None else drain_s)
                self._renew(lease_s)
                return self.state

        return await self._to_its_end(rest())

    async def wake(self) -> RestState:
        """End the rest, and wait until requests are answered: every version is loaded and compared with its fingerprint again.

        Raises EngineError, EngineUnavailable if that does not come about within `engine.start_timeout_s`.
        """

        async def wake() -> RestState:
            async with self._changing:
                if self._phase != "awake" and isinstance(self._engine, Rests):
                    await self._get_up(self._engine)
                return self.state

        return await self._to_its_end(wake())

    async def close(self) -> None:
        """The server ends. An engine that goes on without it is not left asleep."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._end_lease()
        if self._phase != "awake" and self._kind == "attach" and isinstance(self._engine, Rests):
            try:
                await self._engine.wake()
            except EngineError as exc:
                logger.warning("the engine is left asleep: %s", exc.message)

    async def _lie_down(self, engine: Rests, reason: Reason, drain_s: float) -> None:
        self._phase, self._reason, self._began_at = "draining", reason, time.monotonic()
        try:
            await self._adapters.halt(self._unavailable)
            if not await self._adapters.quiet(drain_s):
                self._end_answers(self._unavailable())
                await self._adapters.quiet(CLOSING_DRAIN_S)
            await engine.rest()
        except BaseException:
            self._go_on()
            raise
        self._phase = "resting"
        logger.warning("the engine rests (%s): %s", engine.rests, reason)

    async def _get_up(self, engine: Rests) -> None:
        self._end_lease()
        self._phase = "waking"
        try:
            await engine.wake()
        except BaseException:
            self._phase = "resting"
            self._renew(TRY_AGAIN_S)
            raise
        self._adapters.go_on()
        try:
            async with asyncio.timeout(self._start_timeout_s):
                while not self._adapters.settled:  # noqa: ASYNC110 (it settles in a task of its own, without an event for others)
                    await asyncio.sleep(LOOK_S)
        except TimeoutError as exc:
            raise EngineUnavailable(f"the engine was woken and is not ready yet: {self._adapters.detail}", retry_after_s=LATE_S) from exc
        finally:
            self._phase = "awake"
        self._took.append(time.monotonic() - self._began_at)
        logger.warning("the engine answers again after %.1f s", self._took[-1])

    def _go_on(self) -> None:
        self._phase = "awake"
        self._adapters.go_on()

    def _renew(self, lease_s: float) -> None:
        self._end_lease()
        self._ends_at = time.monotonic() + lease_s
        self._lease = asyncio.get_running_loop().call_later(lease_s, self._over)

    def _end_lease(self) -> None:
        self._ends_at = math.inf
        if self._lease is not None:
            self._lease.cancel()
            self._lease = None

    def _over(self) -> None:
        logger.warning("nobody asked for a longer rest of the engine: it is woken")
        self._begun(self._expired()).add_done_callback(_told)

    async def _expired(self) -> RestState:
        """Wake it, unless the rest was made longer while this waited for its turn."""
        async with self._changing:
            if self._phase == "resting" and time.monotonic() >= self._ends_at and isinstance(self._engine, Rests):
                await self._get_up(self._engine)
            return self.state

    async def _to_its_end(self, work: Coroutine[Any, Any, RestState]) -> RestState:
        """Do it in a task of its own: a client that goes away leaves nothing half done."""
        return await asyncio.shield(self._begun(work))

    def _begun(self, work: Coroutine[Any, Any, RestState]) -> asyncio.Task[RestState]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _unavailable(self) -> EngineUnavailable:
        """What is said to those who ask now."""
        said = f"rests ({self._reason})" if self._phase in ("draining", "resting") else "comes back from its rest"
        expected = sum(self._took) / len(self._took) if self._took else FIRST_ESTIMATE_S
        left = math.ceil(expected - (time.monotonic() - self._began_at))
        return EngineUnavailable(f"the engine {said}; ask again", retry_after_s=left if left > 0 else LATE_S)

    def _why_never(self) -> str:
        if self._kind in ("openai", "none"):
            return f"engine.kind={self._kind} never rests: what answers is not this server's to stop"
        return "the engine does not rest: set engine.rest (stop, or sleep on a GPU) and start the server again"


def _told(task: asyncio.Task[RestState]) -> None:
    if not task.cancelled() and (failure := task.exception()) is not None:
        logger.warning("the engine could not be woken: %s", failure)
