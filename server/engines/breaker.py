"""When an engine that failed may be called again: it rests, longer from failure to failure, and then one call tries it before others do."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from recollect.errors import EngineUnavailable

FIRST_REST_S, LAST_REST_S = 1.0, 30.0
Clock = Callable[[], float]


class Breaker:
    """Closed: calls go through. Open: the engine rests. Half open: the rest is over, and one call, the trial, decides what comes next."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        """In a row; 0: closed."""
        self._rests_until = 0.0
        self._tried = False

    @property
    def open(self) -> bool:
        """Whether calls are to pass this engine over now."""
        return self._failures > 0 and (self._tried or self._clock() < self._rests_until)

    @property
    def being_tried(self) -> bool:
        """Whether the trial goes on: others may join it where there is nobody else to ask."""
        return self._failures > 0 and self._tried

    @property
    def left_s(self) -> float:
        """Seconds of rest that are left."""
        return max(0.0, self._rests_until - self._clock()) if self._failures else 0.0

    def attempt(self) -> Attempt:
        """A call begins. After a rest it is the trial, and no other call gets through until it has an answer."""
        trial = self._failures > 0 and not self.open
        self._tried = self._tried or trial
        return Attempt(self, trial=trial)

    def trip(self) -> None:
        """It is down. While it rests, or is being tried, that is known already."""
        if not self.open:
            self._rests_until = self._clock() + min(FIRST_REST_S * 2 ** min(self._failures, 10), LAST_REST_S)
            self._failures += 1

    def close(self) -> None:
        """It is up."""
        self._failures = 0
        self._tried = False

    def failed(self, *, trial: bool) -> None:
        """A call found it down. Of calls that began before it rested, the first one tells all."""
        if trial:
            self._tried = False
        if trial or not self._failures:
            self.trip()

    def undecided(self) -> None:
        """The trial was given up before an answer: the next call is one."""
        self._tried = False


class Attempt:
    """One call, as a context: EngineUnavailable that leaves it means that the engine is down, any other error is an answer."""

    __slots__ = ("_breaker", "_trial")

    def __init__(self, breaker: Breaker, *, trial: bool) -> None:
        self._breaker = breaker
        self._trial = trial

    def answered(self) -> None:
        """Something came: the engine is up."""
        if self._trial:
            self._trial = False
            self._breaker.close()

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(exc, EngineUnavailable):
            self._breaker.failed(trial=self._trial)
        elif exc is None or isinstance(exc, Exception):
            self.answered()
        elif self._trial:  # cancelled, which tells nothing
            self._breaker.undecided()
