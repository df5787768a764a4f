"""Places for answers: free ones at once, else in turn, tenant by tenant, in a bounded queue and for a bounded time."""

from __future__ import annotations

import asyncio

import pytest

from recollect.errors import EngineUnavailable, TooManyRequests
from server.service.admission import Admission


class Door(Admission):
    """An admission that notes who was let in, in order, and what was refused."""

    def __init__(self, *, at_once: int = 1, queued: int = 100, timeout_s: float = 60.0) -> None:
        self.entered: list[str] = []
        self.refusals: list[str] = []
        super().__init__(max_in_flight=at_once, max_queued=queued, timeout_s=timeout_s, refused=self.refusals.append)

    async def come(self, *tenants: str) -> list[asyncio.Task[None]]:
        """One after the other; each has entered, waits or was refused when this returns."""
        tasks = [asyncio.create_task(self._enter(tenant)) for tenant in tenants]
        await settled()
        return tasks

    async def _enter(self, tenant: str) -> None:
        if not self.take():
            await self.wait(tenant)
        self.entered.append(tenant)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def refused(tasks: list[asyncio.Task[None]]) -> list[bool]:
    return [task.done() and isinstance(task.exception(), TooManyRequests) for task in tasks]


async def test_what_finds_a_place_does_not_wait() -> None:
    door = Door(at_once=2)
    assert (door.take(), door.take(), door.take()) == (True, True, False)
    assert door.crowded
    door.leave()
    assert not door.crowded
    assert door.take()


async def test_tenants_take_turns_whoever_came_first() -> None:
    door = Door()
    await door.come("a", "a", "a", "a", "b", "b", "c")
    assert (door.entered, door.queued) == (["a"], 6)
    for _ in range(6):
        door.leave()
        await settled()
    assert door.entered == ["a", "a", "b", "c", "a", "b", "a"]
    assert (door.queued, door.crowded) == (0, True)
    door.leave()
    assert not door.crowded


async def test_a_full_queue_sends_away_with_a_time_to_come_back() -> None:
    door = Door(queued=2)
    tasks = await door.come("a", "a", "a", "a")
    assert refused(tasks) == [False, False, False, True]
    error = tasks[-1].exception()
    assert isinstance(error, TooManyRequests)
    assert (error.retry_after_s, error.code) == (1, "overloaded")
    assert door.refusals == ["queue_full"]
    assert (await _none_may_wait()).refusals == ["queue_full"]


async def _none_may_wait() -> Door:
    door = Door(queued=0)
    assert refused(await door.come("a", "b")) == [False, True]
    return door


async def test_of_a_full_queue_each_tenant_keeps_its_share_and_who_has_more_gives_way() -> None:
    door = Door(queued=4)
    [_, *of_a] = await door.come("a", *"aaaa")
    of_b = await door.come(*"bbb")
    assert refused(of_a) == [False, False, True, True]
    assert refused(of_b) == [False, False, True]
    assert refused(await door.come("c", "c")) == [False, True]
    assert refused(of_a) == [False, True, True, True]
    assert door.queued == 4


async def test_who_waits_too_long_is_sent_away() -> None:
    door = Door(timeout_s=0.01)
    [_, late] = await door.come("a", "a")
    with pytest.raises(TooManyRequests, match=r"server\.queue_timeout_s"):
        await late
    assert (door.queued, door.refusals) == (0, ["queue_timeout"])
    door.leave()
    assert not door.crowded


async def test_who_leaves_frees_its_place_in_the_queue() -> None:
    door = Door(queued=1)
    [_, waiting] = await door.come("a", "a")
    waiting.cancel()
    await settled()
    assert door.queued == 0
    [other] = await door.come("b")
    door.leave()
    await other
    assert door.entered == ["a", "b"]


async def test_a_place_that_comes_as_its_taker_leaves_goes_to_the_next() -> None:
    door = Door()
    [_, leaving, staying] = await door.come("a", "a", "b")
    door.leave()
    leaving.cancel()
    await staying
    assert leaving.cancelled()
    leaving_first = Door()
    [_, leaving, staying] = await leaving_first.come("a", "a", "b")
    leaving.cancel()
    leaving_first.leave()
    await staying
    for each in (door, leaving_first):
        assert each.entered == ["a", "b"]
        each.leave()
        assert (each.queued, each.crowded) == (0, False)


async def test_a_server_that_ends_sends_everybody_away() -> None:
    door = Door(at_once=1)
    tasks = await door.come("a", "a", "b")
    door.close()
    tasks += await door.come("c")
    await settled()
    assert [isinstance(task.exception(), EngineUnavailable) for task in tasks[1:]] == [True] * 3
    assert door.queued == 0


async def test_thousands_of_comings_and_goings_lose_no_place() -> None:
    door = Door(at_once=3, queued=8)

    async def use(number: int) -> None:
        try:
            if not door.take():
                await door.wait(f"tenant {number % 5}")
        except TooManyRequests:
            return
        try:
            for _ in range(number % 4):
                await asyncio.sleep(0)
        finally:
            door.leave()

    tasks: list[asyncio.Task[None]] = []
    for number in range(3000):
        tasks.append(asyncio.create_task(use(number)))
        if number % 7 == 0:
            tasks[number // 2].cancel()
        if number % 3 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert door.queued == 0
    assert [door.take() for _ in range(4)] == [True, True, True, False]
