"""Engines that run already and are asked to sleep, against a server that sleeps as vLLM does, or does not know how."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from engine_stub import Stub, serving

from recollect.errors import EngineError, EngineUnavailable
from recollect.policy import Policy
from server.engines.base import Sampling, collect
from server.engines.pool import EnginePool
from server.engines.rests import rest_of
from server.engines.scripted import ScriptedEngine
from server.engines.upstream import OpenAIUpstream
from server.engines.vllm import VllmEngine


def sleeper() -> Stub:
    stub = Stub()
    stub.sleeps = True
    return stub


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with serving(sleeper()) as running:
        yield running


@pytest.fixture
async def other() -> AsyncIterator[Stub]:
    async with serving(Stub()) as running:
        yield running


async def complete(engine: VllmEngine | EnginePool) -> str:
    return (await collect(engine.complete([1, 2], policy=Policy(base="stub"), sampling=Sampling())))[0].text


async def test_one_sleeps_until_it_is_woken(stub: Stub) -> None:
    engine = VllmEngine(stub.url, timeout_s=5, rests="sleep")
    await engine.rest()
    assert not stub.awake.is_set()
    await engine.wake()
    assert await complete(engine) == "Hello"
    await engine.wake()
    assert await complete(engine) == "Hello"
    await engine.close()


async def test_one_that_knows_no_sleep_says_how_it_has_to_be_started(other: Stub) -> None:
    engine = VllmEngine(other.url, timeout_s=5, rests="sleep")
    for call in (engine.rest, engine.wake):
        with pytest.raises(
            EngineError, match=r"offers no sleep .*VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode, or set engine\.rest=none"
        ):
            await call()
    await engine.close()


async def test_one_that_a_server_left_asleep_is_woken_when_it_is_found(stub: Stub) -> None:
    stub.awake.clear()
    engine = VllmEngine(stub.url, timeout_s=5, rests="sleep")
    await engine.start()
    await asyncio.wait_for(stub.awake.wait(), 10)
    await engine.close()


async def test_one_that_goes_on_sleeping_is_an_error(stub: Stub) -> None:
    stub.replies["/wake_up"] = (200, {"status": "sleeping"})
    engine = VllmEngine(stub.url, timeout_s=5, rests="sleep")
    await engine.rest()
    with pytest.raises(EngineError, match="was woken and sleeps on"):
        await engine.wake()
    await engine.close()


async def test_all_of_a_pool_sleep_or_none(stub: Stub, other: Stub) -> None:
    one, two = VllmEngine(stub.url, timeout_s=5, rests="sleep"), VllmEngine(other.url, timeout_s=5, rests="sleep")
    pool = EnginePool([one, two])
    assert pool.rests == "sleep"
    with pytest.raises(EngineError, match="offers no sleep"):
        await pool.rest()
    assert stub.awake.is_set()
    alone = EnginePool([one])
    await alone.rest()
    assert not stub.awake.is_set()
    await alone.wake()
    assert await complete(alone) == "Hello"
    await pool.close()


async def test_a_pool_gives_engines_their_adapters_again_that_lost_them() -> None:
    engines = ScriptedEngine(), ScriptedEngine()
    pool = EnginePool(engines)
    policy = Policy(base="scripted", adapter="memory", version=1)
    await pool.load_adapter(policy, "/somewhere")
    for engine in engines:
        engine.adapters.clear()
    await pool.reload()
    assert [engine.adapters for engine in engines] == [{policy.name: "/somewhere"}] * 2
    engines[0].resting = True
    with pytest.raises(EngineUnavailable):
        await pool.reload()


def test_who_never_rests() -> None:
    upstream = OpenAIUpstream("http://127.0.0.1:9", "m")
    assert rest_of(upstream) == rest_of(EnginePool([upstream])) == rest_of(object()) == "none"
    assert EnginePool([ScriptedEngine(rests="stop"), ScriptedEngine(rests="sleep")]).rests == "none"
