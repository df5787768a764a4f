"""A conversation stays at one engine, whose prefix cache holds it, unless that is down or clearly busier."""

from __future__ import annotations

import asyncio
from collections import Counter

from recollect.errors import EngineUnavailable
from recollect.messages import Message, assistant, user
from recollect.policy import Policy
from server.engines.affinity import in_turn, prompt_key
from server.engines.base import Sampling, collect
from server.engines.member import Member
from server.engines.pool import EnginePool
from server.engines.scripted import ScriptedEngine

BASE = Policy(base="scripted")
SYSTEM = Message(role="system", content="You are terse.")


def named(name: str) -> ScriptedEngine:
    return ScriptedEngine(answer=lambda call: name)


async def ask(pool: EnginePool, *said: Message, salt: str | None = None) -> str:
    return (await collect(pool.chat(said, policy=BASE, sampling=Sampling(), salt=salt)))[0].text


def keys(count: int) -> list[bytes]:
    return [prompt_key([number], None) for number in range(count)]


async def test_the_turns_of_a_conversation_go_to_one_engine_and_conversations_to_all() -> None:
    pool = EnginePool([named("a"), named("b"), named("c")])
    chosen: Counter[str] = Counter()
    for number in range(60):
        said = [SYSTEM, user(f"question {number}")]
        first = await ask(pool, *said)
        for turn in range(3):
            said += [assistant("hm"), user(f"and {turn}?")]
            assert await ask(pool, *said) == first
        chosen[first] += 1
    assert min(chosen[name] for name in "abc") >= 10


async def test_prompts_that_begin_alike_go_to_one_engine() -> None:
    pool = EnginePool([named("a"), named("b")])

    async def complete(ids: list[int]) -> str:
        return (await collect(pool.complete(ids, policy=BASE, sampling=Sampling())))[0].text

    found = {number: await complete([60 + number] * 128) for number in range(20)}
    assert set(found.values()) == {"a", "b"}
    for number, name in found.items():
        assert await complete([60 + number] * 128 + [67, 68, 69]) == name


async def test_tenants_do_not_share_a_cache_and_need_not_share_an_engine() -> None:
    pool = EnginePool([named("a"), named("b")])
    assert {await ask(pool, user("hello"), salt=f"tenant {number}") for number in range(20)} == {"a", "b"}


async def test_a_conversation_whose_engine_is_busy_goes_to_another_and_back() -> None:
    engines = {name: named(name) for name in "ab"}
    pool = EnginePool(list(engines.values()))
    own = await ask(pool, user("hello"))
    engines[own].trouble.hold = freed = asyncio.Event()
    waiting = [asyncio.create_task(ask(pool, user("hello"))) for _ in range(2)]
    while engines[own].in_flight < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert await ask(pool, user("hello")) != own
    freed.set()
    assert await asyncio.gather(*waiting) == [own, own]
    assert await ask(pool, user("hello")) == own


async def test_a_conversation_whose_engine_is_down_goes_to_another() -> None:
    engines = {name: named(name) for name in "ab"}
    pool = EnginePool(list(engines.values()))
    own = await ask(pool, user("hello"))
    engines[own].trouble.fail = EngineUnavailable("down")
    assert await ask(pool, user("hello"), assistant("hm"), user("and?")) != own


def test_when_an_engine_leaves_only_its_own_conversations_move() -> None:
    members = [Member(named("x"), number) for number in range(4)]
    before = {key: in_turn(members, key) for key in keys(200)}
    for key, order in before.items():
        assert in_turn(members[1:], key) == [member for member in order if member is not members[0]]
    assert {order[0].name for order in before.values()} == {member.name for member in members}


def test_without_a_key_the_least_busy_is_first_and_with_one_the_clearly_busier_are_last() -> None:
    members = [Member(named("x"), number) for number in range(4)]
    for member, busy in zip(members, (9, 8, 11, 30), strict=True):
        member.in_flight = busy
    assert [member.in_flight for member in in_turn(members)] == [8, 9, 11, 30]
    orders = [[member.in_flight for member in in_turn(members, key)] for key in keys(50)]
    assert {order[0] for order in orders} == {8, 9, 11}  # 11: one more, and a quarter, than 8
    assert {order[-1] for order in orders} == {30}
