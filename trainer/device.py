"""Where updates are made: on a device beside the engine's, or on the same one, on which the engine rests meanwhile.

Then the server of the home lets its engine rest (`/v1/admin/engine`), for a lease that is made longer as long as this process lives, and
wakes it before anything is sampled again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from recollect.errors import ConfigurationError, EngineUnavailable, RecollectError
from server.engines.connection import Connection

T = TypeVar("T")
logger = logging.getLogger(__name__)
PLACE = "/v1/admin/engine"
LEASE_S = 60.0
"""For how long the engine rests after the last word from this process."""
LAST_S = 2.0
"""The same after its very last word, in which it is gone and its memory is free."""
CHANGE_TIMEOUT_S = 3600.0
"""Of a rest or a waking, which the server bounds by itself."""
WORD_TIMEOUT_S = 10.0
GO_ON = "the run can go on: recollect train --resume last"


class Device(Protocol):
    """Where a run's learner computes."""

    @property
    def waited_s(self) -> float:
        """Seconds so far in which the engine went to rest or came back."""
        ...

    async def begin(self) -> None:
        """Make sure of it before anything is done. Raises ConfigurationError, EngineError."""
        ...

    async def use(self, work: Callable[[], T]) -> T:
        """What `work`, which blocks, returns, in a thread. Raises what it does, EngineError if the engine does not rest or come back."""
        ...


class Beside:
    """The engine has a device, or a part of one, of its own."""

    waited_s = 0.0

    async def begin(self) -> None:
        """Nothing to make sure of."""

    async def use(self, work: Callable[[], T]) -> T:
        """At once."""
        return await asyncio.to_thread(work)


class Shared:
    """The engine rests while this device is used."""

    def __init__(
        self, home: Path, engine_urls: Sequence[str], came_back: Callable[[], Awaitable[None]], *, lease_s: float = LEASE_S
    ) -> None:
        """`engine_urls`: where the run reaches the engines. `came_back` is called when they answer again, having lost what was loaded."""
        self._home = home
        self._engine_urls = list(engine_urls)
        self._came_back = came_back
        self._lease_s = lease_s
        self._away = False
        self.waited_s = 0.0

    async def begin(self) -> None:
        """Raises ConfigurationError if the server's engine cannot rest. One that rests still, for a run that died, is woken."""
        found = await self._ask("GET", "")
        if found["mode"] == "none":
            raise ConfigurationError(
                "optimisation.engine=rests: the engine of this home's server does not rest; set engine.rest there (stop, or sleep on a "
                "GPU) and start it again",
                param="optimisation.engine",
            )
        if found["phase"] != "awake":
            await self._ask("POST", "/wake", {})

    async def use(self, work: Callable[[], T]) -> T:
        """With the engine at rest from before the first to after the last of it, whatever comes between."""
        async with self._resting():
            working = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(working)
            finally:
                await asyncio.wait({working})  # a thread goes on when who waits for it is cancelled, and needs the device to its end

    @asynccontextmanager
    async def _resting(self) -> AsyncGenerator[None]:
        began = time.monotonic()
        try:
            await self._change("/rest", {"lease_s": self._lease_s, "reason": "training"})
        except BaseException:  # broken off, it may rest all the same
            with suppress(RecollectError):
                await self._ask("POST", "/wake", {})
            raise
        self._away = True
        self.waited_s += time.monotonic() - began
        renewing = asyncio.create_task(self._renew())
        try:
            with self._ended_in_order(renewing):
                yield
        finally:
            await _stopped(renewing)
            self._away = False
            began = time.monotonic()
            await self._change("/wake", {})
            self._check_address()
            await self._came_back()
            self.waited_s += time.monotonic() - began

    async def _change(self, path: str, body: dict[str, Any]) -> None:
        """Raises EngineUnavailable that says what to do."""
        try:
            await self._ask("POST", path, body)
        except RecollectError as exc:
            done = "go to rest" if path == "/rest" else "come back from its rest"
            raise EngineUnavailable(f"the engine did not {done}: {exc.message}; {GO_ON}") from exc

    async def _renew(self) -> None:
        """Make the rest longer, again and again."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                await self._ask("POST", "/rest", {"lease_s": self._lease_s, "reason": "training", "renew": True}, timeout_s=WORD_TIMEOUT_S)
            except RecollectError as exc:
                logger.warning("the engine may not rest while the update is made: %s", exc.message)

    @contextmanager
    def _ended_in_order(self, renewing: asyncio.Task[None]) -> Generator[None]:
        """A SIGTERM ends this process at once, update or not; the engine comes back as soon as it is gone."""
        loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
        ending: set[asyncio.Task[None]] = set()
        try:
            loop.add_signal_handler(signal.SIGTERM, lambda: ending.add(asyncio.create_task(self._end(renewing))))
        except (RuntimeError, ValueError):  # not in the main thread, which alone is told of signals
            yield
            return
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, before)

    async def _end(self, renewing: asyncio.Task[None]) -> None:
        await _stopped(renewing)
        if self._away:
            with suppress(RecollectError):  # then the lease ends later
                await self._ask("POST", "/rest", {"lease_s": LAST_S, "reason": "training", "renew": True}, timeout_s=WORD_TIMEOUT_S)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    def _check_address(self) -> None:
        now = server_of(self._home).get("engine_urls")
        if now != self._engine_urls:
            raise EngineUnavailable(f"the engine came back at another address ({now}, not {self._engine_urls}); {GO_ON}")

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout_s: float = CHANGE_TIMEOUT_S
    ) -> dict[str, Any]:
        """What the server of the home answers; its address and token are read each time. Raises EngineError, EngineUnavailable."""
        server = server_of(self._home)
        if "url" not in server:
            raise EngineUnavailable(f"no server runs on home {self._home}")
        connection = Connection(server["url"], api_key=server.get("token", ""), timeout_s=timeout_s, key_setting="home")
        try:
            if method == "GET":
                return await connection.get_json(PLACE + path)
            return await connection.post_json(PLACE + path, body or {})
        finally:
            await connection.close()


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def server_of(home: Path) -> dict[str, Any]:
    """What the server that runs on the home wrote down of itself; nothing where none does."""
    try:
        return json.loads((home / "server.json").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
