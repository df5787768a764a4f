"""Every agent cancelled at every place: each piece of a model call, each call of the store, each embedding, one after the other.

While it answers it is the client that leaves; while it remembers, the server that stops. Memory is then as before the turn or as after
all of it, no stream of the engine is open, the log tells what happened, and the same request asked again is answered and kept once.
"""

from __future__ import annotations

import asyncio
from itertools import count

from recollect.errors import RecollectError
from recollect.log import read_log
from recollect.trajectory import Trajectory
from server.identity import Identity
from server.service import ChatRequest, Exchange
from tests.api.conftest import until
from tests.conformance.agents.cases import SEEDED, Run, user_named


async def test_cancelled_anywhere_a_turn_is_kept_whole_or_not_at_all_and_can_be_asked_again(run: Run) -> None:
    whole = [*SEEDED, *run.case.adds]
    seen: set[str] = set()
    places: list[str] = []
    for place in count():
        name = run.somebody()
        namespace = user_named(name)
        before = await run.seed(namespace)
        exchange, told = await _cancelled(run, name, place)
        if not run.gate.reached.is_set():
            break  # the turn has no more places
        what = run.gate.passed[place]
        places.append(what)
        assert run.engine.in_flight == 0, what
        logged = _trajectory(run, exchange)
        assert (told is None) == (logged.error is None), what
        if told is not None:
            assert (told.startswith("ClientDisconnected"), logged.error) == (True, told), what
        elif logged.memory_error is not None:
            assert logged.memory_error.startswith("cancelled"), what
        seen.add("error" if logged.error else "memory" if logged.memory_error else "whole")
        kept = await run.texts(namespace)
        assert kept in ([*SEEDED], whole), what
        assert await run.store.real.seq(namespace) == before + (kept == whole != [*SEEDED]), what
        if logged.error or logged.memory_error:
            assert len([s for s in logged.steps if s.error]) <= 1
        await _asked(run, name)
        assert await run.texts(namespace) == whole, what
    assert {"call", "engine"} <= set(places)
    assert not run.case.adds or {"apply", "apply done"} <= set(places)
    assert seen >= ({"error", "memory"} if run.case.late else {"error"})


async def _begun(run: Run, name: str, stop_at: int | None) -> Exchange:
    request = ChatRequest(run.case.model, run.case.messages, Identity(user_named(name)), "monday", stream=True)
    exchange = await run.served.service.chat.begin(request)
    run.gate.arm(stop_at)
    return exchange


async def _asked(run: Run, name: str) -> None:
    exchange = await _begun(run, name, None)
    assert "".join([event.text async for event in exchange]).strip()
    exchange.delivered()
    await until(lambda: len(run.served.service.chat.pending) == 0)
    logged = _trajectory(run, exchange)
    assert (logged.error, logged.memory_error) == (None, None)


async def _cancelled(run: Run, name: str, place: int) -> tuple[Exchange, str | None]:
    """Cancel at a place, if it is reached; returns what the client was told, None if it had its whole answer."""
    exchange = await _begun(run, name, place)
    reading = asyncio.create_task(_read(exchange))
    await until(lambda: run.gate.reached.is_set() or (reading.done() and len(run.served.service.chat.pending) == 0))
    if exchange.task is not None and not exchange.task.done():
        exchange.abandon()
        run.gate.opened.set()
    else:
        await run.served.service.chat.pending.close(timeout_s=0)
        run.gate.opened.set()
    told = await reading
    await until(lambda: len(run.served.service.chat.pending) == 0)
    return exchange, told


async def _read(exchange: Exchange) -> str | None:
    try:
        async for _ in exchange:
            pass
    except RecollectError as exc:
        return exc.message
    exchange.delivered()
    return None


def _trajectory(run: Run, exchange: Exchange) -> Trajectory:
    found = read_log(run.served.home / "trajectories", strict=True).trajectories
    return next(logged.trajectory for logged in found if logged.trajectory.id == exchange.trajectory_id)
