"""Several engines as one: the least busy answers, those that are down are passed over, adapters are on all."""

from __future__ import annotations

import asyncio

import pytest

from recollect.errors import AdapterRefused, ConfigurationError, EngineError, EngineUnavailable, NotFound
from recollect.messages import user
from recollect.policy import Policy
from server.engines import pool as pool_module
from server.engines.base import Sampling, collect
from server.engines.pool import EnginePool
from server.engines.scripted import ScriptedEngine

BASE = Policy(base="scripted")
ADAPTED = Policy(base="scripted", adapter="memory", version=3)


def named(name: str, window: int = 8192) -> ScriptedEngine:
    return ScriptedEngine(answer=lambda call: name, window=window)


async def ask(pool: EnginePool, policy: Policy = BASE, *, stream: bool = False) -> str:
    return (await collect(pool.chat([user("who?")], policy=policy, sampling=Sampling(), stream=stream)))[0].text


async def test_the_least_busy_answers() -> None:
    one, two = named("one"), named("two")
    one.trouble.hold = asyncio.Event()
    pool = EnginePool([one, two])
    waiting = asyncio.create_task(ask(pool))
    while not one.in_flight:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert [await ask(pool) for _ in range(3)] == ["two"] * 3
    one.trouble.hold.set()
    assert await waiting == "one"


async def test_one_that_is_down_is_passed_over_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = named("one"), named("two")
    one.trouble.fail = EngineUnavailable("down")
    pool = EnginePool([one, two])
    assert [await ask(pool), await ask(pool)] == ["two", "two"]
    assert len(one.calls) == 1
    one.trouble.fail = None
    monkeypatch.setattr(pool_module, "REST_S", 0.0)
    assert (await pool.health()).ready
    assert await ask(pool) == "one"


async def test_when_all_are_down_it_says_when_to_come_back() -> None:
    one, two = named("one"), named("two")
    one.trouble.fail = two.trouble.fail = EngineUnavailable("down")
    pool = EnginePool([one, two])
    for _ in range(2):
        with pytest.raises(EngineUnavailable, match="no engine can be reached") as raised:
            await ask(pool)
        assert 1 <= raised.value.retry_after_s <= 5
    assert (len(one.calls), len(two.calls)) == (1, 1)


async def test_a_stream_that_broke_off_is_not_begun_again_elsewhere() -> None:
    one, two = named("a long answer"), named("two")
    one.trouble.break_after = 1
    pool = EnginePool([one, two])
    with pytest.raises(EngineUnavailable):
        await ask(pool, stream=True)
    assert two.calls == []


async def test_an_error_of_the_request_is_not_tried_elsewhere() -> None:
    one, two = named("one"), named("two")
    one.trouble.fail = EngineError("odd")
    with pytest.raises(EngineError, match="odd"):
        await ask(EnginePool([one, two]))
    assert two.calls == []


async def test_adapters_are_loaded_on_all_and_again_where_they_were_lost() -> None:
    one, two = named("one"), named("two")
    pool = EnginePool([one, two])
    await pool.load_adapter(ADAPTED, "/adapters/v3")
    assert one.adapters == two.adapters == {"memory@v3": "/adapters/v3"}
    one.adapters.clear()
    assert await ask(pool, ADAPTED) == "one"
    assert one.adapters == {"memory@v3": "/adapters/v3"}
    await pool.unload_adapter(ADAPTED)
    assert one.adapters == two.adapters == {}
    with pytest.raises(NotFound):
        await ask(pool, ADAPTED)


async def test_an_adapter_that_one_engine_refuses_is_on_none() -> None:
    one, two = named("one"), named("two")
    two.trouble.refuse_adapters = "too wide"
    pool = EnginePool([one, two])
    with pytest.raises(AdapterRefused, match="too wide"):
        await pool.load_adapter(ADAPTED, "/adapters/v3")
    assert one.adapters == {}


async def test_an_engine_that_was_down_gets_the_adapter_on_its_return(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = named("one"), named("two")
    one.trouble.fail = EngineUnavailable("down")
    pool = EnginePool([one, two])
    assert await ask(pool) == "two"
    await pool.load_adapter(ADAPTED, "/adapters/v3")
    assert one.adapters == {}
    one.trouble.fail = None
    await pool.health()
    assert await ask(pool, ADAPTED) == "one"


async def test_what_it_says_of_itself() -> None:
    with pytest.raises(ConfigurationError, match=r"engine\.urls"):
        EnginePool([])
    one, two = named("one", window=100), named("two", window=50)
    pool = EnginePool([one, two])
    await pool.start()
    assert (pool.base, pool.window, pool.exact) == ("scripted", 50, True)
    assert await pool.decode(await pool.encode("hi")) == "hi"
    assert await pool.render([user("hi")]) == await one.render([user("hi")])
    assert (await collect(pool.complete(await pool.encode("x"), policy=BASE, sampling=Sampling())))[0].text == "one"
    two.trouble.unhealthy = "two is ill"
    assert await pool.health() == (True, "scripted; two is ill")
    one.trouble.unhealthy = "one is ill"
    assert not (await pool.health()).ready
    await pool.close()
    assert one.closed
    assert two.closed
