"""Several engines as one: those that are down are passed over and rest, adapters are on all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from engine_stub import Stub, serving

from recollect.errors import AdapterRefused, ConfigurationError, EngineError, EngineUnavailable, NotFound
from recollect.messages import user
from recollect.policy import Policy
from server.engines.base import Sampling, collect
from server.engines.pool import EnginePool
from server.engines.scripted import ScriptedEngine
from server.engines.vllm import VllmEngine

BASE = Policy(base="scripted")
ADAPTED = Policy(base="scripted", adapter="memory", version=3)


def named(name: str, window: int = 8192) -> ScriptedEngine:
    return ScriptedEngine(answer=lambda call: name, window=window)


async def ask(pool: EnginePool, policy: Policy = BASE, *, stream: bool = False, about: str = "who?") -> str:
    return (await collect(pool.chat([user(about)], policy=policy, sampling=Sampling(), stream=stream)))[0].text


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0)


class Time:
    """Passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def down(engine: ScriptedEngine, *, calls: int = -1) -> ScriptedEngine:
    engine.trouble.fail, engine.trouble.failures = EngineUnavailable("down"), calls
    return engine


async def test_one_that_is_down_rests_longer_each_time_and_is_then_tried_by_one_call() -> None:
    time, one = Time(), down(named("one"))
    pool = EnginePool([one, named("two")], time)
    for rest in (1, 2, 4, 8, 16, 30, 30):
        tried = len(one.calls)
        assert {await ask(pool, about=str(i)) for i in range(8)} == {"two"}
        assert len(one.calls) == tried + 1
        time.now += rest - 0.01
        assert {await ask(pool, about=str(i)) for i in range(8)} == {"two"}
        assert len(one.calls) == tried + 1
        time.now += 0.01
    one.trouble.fail = None
    assert {await ask(pool, about=str(i)) for i in range(8)} == {"one", "two"}
    down(one)
    assert {await ask(pool, about=str(i)) for i in range(8)} == {"two"}
    time.now += 1
    one.trouble.fail = None
    assert "one" in {await ask(pool, about=str(i)) for i in range(8)}  # it rested for a second again, as after a first failure


async def test_others_pass_over_an_engine_that_is_being_tried() -> None:
    time, one, two = Time(), down(named("one")), named("two")
    pool = EnginePool([one, two], time)
    assert {await ask(pool, about=str(i)) for i in range(8)} == {"two"}
    time.now += 1
    one.trouble.fail, one.trouble.hold = None, asyncio.Event()
    called = len(one.calls)
    asking = [asyncio.create_task(ask(pool, about=str(i))) for i in range(8)]
    await until(lambda: one.in_flight == 1 and sum(task.done() for task in asking) == 7)
    assert len(one.calls) == called + 1
    one.trouble.hold.set()
    assert {await task for task in asking} == {"one", "two"}


async def test_where_there_is_no_other_they_join_the_trial() -> None:
    time, one = Time(), down(named("one"), calls=1)
    pool = EnginePool([one], time)
    with pytest.raises(EngineUnavailable):
        await ask(pool)
    with pytest.raises(EngineUnavailable, match="no engine can be reached"):
        await ask(pool)
    time.now += 1
    one.trouble.hold = asyncio.Event()
    asking = [asyncio.create_task(ask(pool)) for _ in range(3)]
    await until(lambda: one.in_flight == 3)  # a trial may take minutes
    one.trouble.hold.set()
    assert [await task for task in asking] == ["one"] * 3


async def test_a_trial_whose_client_leaves_decides_nothing() -> None:
    time, one = Time(), down(named("one"), calls=1)
    pool = EnginePool([one], time)
    with pytest.raises(EngineUnavailable):
        await ask(pool)
    time.now += 1
    one.trouble.hold = asyncio.Event()
    trial = asyncio.create_task(ask(pool))
    await until(lambda: one.in_flight == 1)
    trial.cancel()
    await asyncio.wait({trial})
    one.trouble.hold.set()
    assert await ask(pool) == "one"


async def test_calls_that_fail_together_are_one_failure() -> None:
    time, one = Time(), named("one")
    one.trouble.hold, one.trouble.break_after = asyncio.Event(), 0
    pool = EnginePool([one], time)
    asking = [asyncio.create_task(ask(pool)) for _ in range(5)]
    await until(lambda: one.in_flight == 5)
    one.trouble.hold.set()
    await asyncio.wait(asking)
    assert all(isinstance(task.exception(), EngineUnavailable) for task in asking)
    one.trouble.break_after = None
    time.now += 1
    assert await ask(pool) == "one"


async def test_an_engine_that_health_checks_find_back_need_not_rest() -> None:
    time, one = Time(), down(named("one"))
    pool = EnginePool([one], time)
    one.trouble.unhealthy = "it is being started"
    with pytest.raises(EngineUnavailable):
        await ask(pool)
    assert not (await pool.health()).ready
    one.trouble.unhealthy, one.trouble.fail = "", None
    assert (await pool.health()).ready
    assert await ask(pool) == "one"


async def test_health_that_was_never_ill_does_not_shorten_a_rest() -> None:
    one = down(named("one"), calls=1)
    pool = EnginePool([one], Time())
    with pytest.raises(EngineUnavailable):
        await ask(pool)
    assert (await pool.health()).ready
    with pytest.raises(EngineUnavailable):
        await ask(pool)


async def test_one_health_check_may_be_missed() -> None:
    one = named("one")
    one.trouble.unhealthy = "no answer in time"
    pool = EnginePool([one], Time())
    await pool.health()
    assert await ask(pool) == "one"
    await pool.health()
    with pytest.raises(EngineUnavailable):
        await ask(pool)


async def test_when_all_are_down_it_says_when_to_come_back() -> None:
    one, two = down(named("one")), down(named("two"))
    pool = EnginePool([one, two])
    for _ in range(2):
        with pytest.raises(EngineUnavailable, match="no engine can be reached") as raised:
            await ask(pool)
        assert raised.value.retry_after_s == 1
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


async def test_an_engine_that_was_down_gets_the_adapter_on_its_return() -> None:
    time, one, two = Time(), down(named("one")), named("two")
    pool = EnginePool([one, two], time)
    assert await ask(pool) == "two"
    await pool.load_adapter(ADAPTED, "/adapters/v3")
    assert one.adapters == {}
    one.trouble.fail = None
    time.now += 1
    assert await ask(pool, ADAPTED) == "one"
    assert one.adapters == {"memory@v3": "/adapters/v3"}


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


async def test_over_http_another_server_answers_and_the_one_that_returns_is_tried_again() -> None:
    time, asked = Time(), [str(i) for i in range(8)]
    async with serving(Stub()) as staying:
        async with serving(Stub()) as leaving:
            port = int(leaving.url.rpartition(":")[2])
            pool = EnginePool([VllmEngine(leaving.url), VllmEngine(staying.url)], time)
            assert (await pool.health()).ready
            policy = Policy(base=pool.base)
            for about in asked:
                assert await ask(pool, policy, about=about) == "Hello"
            assert len(leaving.bodies) + len(staying.bodies) == 8
            assert leaving.bodies
        for about in asked:
            assert await ask(pool, policy, about=about) == "Hello"
        async with serving(Stub(), port) as back:
            for about in asked:
                assert await ask(pool, policy, about=about) == "Hello"
            assert back.bodies == []
            time.now += 1
            for about in asked:
                assert await ask(pool, policy, about=about) == "Hello"
            assert back.bodies
            await pool.close()
