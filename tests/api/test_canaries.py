"""A canary: it answers its share of the sessions, each for its whole life, and served rewards promote it or take it back."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recollect.canary import Canary, answered_by_canary
from recollect.events import LogEvent
from recollect.learned import hashes_of
from recollect.log import LogWriter
from recollect.quarantine import quarantined
from recollect.registry import Registry
from recollect.settings import LogSettings
from server.engines.scripted import ScriptedEngine
from tests.api.conftest import Served, serving, until
from tests.api.live import listening
from tests.api.published import by_version, publish

SHARE = 0.4


def canary(over: int | None = 1, **changed: Any) -> Canary:
    return Canary.model_validate({"over": over, "share": SHARE, "min_rewards": 8, "max_hours": 48, "margin": 0.3} | changed)


async def begun(home: Path, **changed: Any) -> Registry:
    """v1 in force, and v2 its canary."""
    await publish(home)
    await publish(home, canary=canary(**changed))
    return Registry(home / "adapters")


def engine() -> ScriptedEngine:
    return ScriptedEngine(answer=by_version)


async def answers(served: Served, version: int = 2, policy: str = "memory") -> None:
    """Wait until the canary is loaded."""

    async def there() -> bool:
        found = (await state(served, policy))["canary"]
        return found is not None and (found["version"], found["answers"]) == (version, True)

    await until(there)


async def state(served: Served, policy: str = "memory") -> dict[str, Any]:
    found = (await served.http.get("/v1/admin/adapters")).json()["data"]
    return next(one for one in found if one["policy"] == policy)


async def said(served: Served, session: str, *, user: str = "ada", model: str = "memory", **more: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "user": user, **more}
    answer = await served.http.post("/v1/chat/completions", json=body, headers={"X-Session-Id": session})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def asked(served: Served, session: str, **more: Any) -> str:
    """The name of the version that answers a session."""
    return (await said(served, session, **more))["recollect"]["policies"]["memory"]


async def rewarded(served: Served, number: int, score: Mapping[str, float], *, prefix: str = "s", users: int = 8) -> None:
    """So many sessions of some users, each answered once and scored by the version that answered."""
    for index in range(number):
        answer = await said(served, f"{prefix}{index}", user=f"u{index % users}")
        name = answer["recollect"]["policies"]["memory"]
        given = await served.http.post("/v1/feedback", json={"id": answer["id"], "score": score[name]})
        assert given.status_code == 200


async def test_a_canary_answers_its_share_of_new_sessions_and_the_log_names_it(tmp_path: Path) -> None:
    await begun(tmp_path)
    async with serving(tmp_path, engine()) as served:
        await answers(served)
        sessions = [f"s{index}" for index in range(60)]
        first = {session: await said(served, session) for session in sessions}
        names = {session: answer["recollect"]["policies"]["memory"] for session, answer in first.items()}
        expected = {session: answered_by_canary("memory@v2", SHARE, "local", ("user/ada", session)) for session in sessions}
        assert {session: name == "memory@v2" for session, name in names.items()} == expected
        assert 10 < sum(expected.values()) < 40
        assert all(answer["choices"][0]["message"]["content"].endswith(names[session]) for session, answer in first.items())
        assert {session: await asked(served, session) for session in sessions} == names
        for logged in await served.logged():
            steps = {step.policy.name for step in logged.trajectory.steps if step.policy is not None}
            assert steps == {names[logged.trajectory.session]}
        listed = await state(served)
        assert (listed["current"], listed["serving"], listed["canary"]["share"]) == (1, "memory@v1", SHARE)
        assert sorted(served.engine.adapters) == ["memory@v1", "memory@v2"]


async def test_a_session_that_began_before_the_canary_stays_with_its_version_through_a_restart(tmp_path: Path) -> None:
    await publish(tmp_path)
    sessions = [f"s{index}" for index in range(20)]
    async with serving(tmp_path, engine()) as served:
        assert {await asked(served, session) for session in sessions} == {"memory@v1"}
        await publish(tmp_path, canary=canary())
        await answers(served)
        assert {await asked(served, session) for session in sessions} == {"memory@v1"}
        later = {f"n{index}": await asked(served, f"n{index}") for index in range(20)}
        assert set(later.values()) == {"memory@v1", "memory@v2"}
    async with serving(tmp_path, engine()) as served:
        await answers(served)
        assert {await asked(served, session) for session in sessions} == {"memory@v1"}
        assert {session: await asked(served, session) for session in later} == later


async def test_a_worse_canary_is_taken_back_into_quarantine_with_its_figures(tmp_path: Path) -> None:
    registry = await begun(tmp_path)
    async with serving(tmp_path, engine()) as served:
        await answers(served)
        await rewarded(served, 60, {"memory@v1": 0.9, "memory@v2": 0.1})
        await served.service.canaries.look()
        await until(lambda: list(served.engine.adapters) == ["memory@v1"])
        assert {await asked(served, f"s{index}") for index in range(60)} == {"memory@v1"}
        listed = await state(served)
        assert (listed["current"], listed["canary"]) == (1, None)
        assert "taken back as a canary: its rewards are worse for certain: -0.800" in listed["versions"][1]["retired"]
    [refusal] = quarantined(registry, "memory")
    assert refusal.reasons[0].startswith("as canary memory@v2: its rewards are worse for certain: -0.800 (95 %: -")
    assert await publish(tmp_path, parent=1) == 3


async def test_a_better_canary_is_promoted_and_answers_all(tmp_path: Path) -> None:
    registry = await begun(tmp_path)
    async with serving(tmp_path, engine()) as served:
        await answers(served)
        await rewarded(served, 80, {"memory@v1": 0.3, "memory@v2": 0.9})
        await served.service.canaries.look()
        await until(lambda: list(served.engine.adapters) == ["memory@v2"])
        assert {await asked(served, f"s{index}") for index in range(20)} == {"memory@v2"}
        listed = await state(served)
        assert (listed["current"], listed["serving"], listed["canary"]) == (2, "memory@v2", None)
    assert quarantined(registry, "memory") == []


async def test_rewards_of_before_a_restart_count_and_the_figures_are_shown(tmp_path: Path) -> None:
    registry = await begun(tmp_path, min_rewards=64)
    score = {"memory@v1": 0.8, "memory@v2": 0.8}
    async with serving(tmp_path, engine()) as served:
        await answers(served)
        await rewarded(served, 20, score)
    async with serving(tmp_path, engine()) as served:
        await answers(served)
        await rewarded(served, 20, score, prefix="t")
        await served.service.canaries.look()
        figures = (await state(served))["canary"]["figures"]
        assert figures["canary"]["sessions"] + figures["in_force"]["sessions"] == 40
        assert abs(figures["difference"]) < 1e-9
        assert figures["low"] < 0 < figures["high"]
        metrics = (await served.http.get("/metrics")).text
        assert f'recollect_canary_share{{canary="memory@v2",policy="memory"}} {SHARE}' in metrics
        assert f'side="canary"}} {float(figures["canary"]["sessions"])}' in metrics
        assert 'recollect_canary_difference{bound="low"' in metrics
    assert registry.canary("memory") is not None


async def test_an_equal_canary_is_promoted_only_with_enough_rewards(tmp_path: Path) -> None:
    registry = await begun(tmp_path, min_rewards=16)
    score = {"memory@v1": 0.9, "memory@v2": 0.9}
    async with serving(tmp_path, engine()) as served:
        await answers(served)
        await rewarded(served, 24, score)
        await served.service.canaries.look()
        assert registry.canary("memory") is not None
        await rewarded(served, 60, score, prefix="t")
        await served.service.canaries.look()
        assert registry.current("memory") == 2


async def test_requests_without_memory_go_the_same_way_and_the_base_model_itself_is_no_canary(tmp_path: Path) -> None:
    await begun(tmp_path)
    async with serving(tmp_path, engine()) as served:
        await answers(served)
        for index in range(20):
            with_memory = await asked(served, f"s{index}")
            assert await asked(served, f"s{index}", metadata={"memory": "off"}) == with_memory
            assert (await said(served, f"s{index}", model="scripted"))["recollect"]["policies"] == {"base": "scripted"}
        await served.service.canaries.look()
        assert (await state(served))["canary"]["figures"]["difference"] is None


async def test_of_two_policies_one_may_have_a_canary_and_each_draws_its_own_sessions(tmp_path: Path) -> None:
    await publish(tmp_path, policy="memory-answer", canary=canary(None))
    async with serving(tmp_path, engine()) as served:
        await answers(served, 1, "memory-answer")
        first = {index: await pair(served, index) for index in range(20)}
        assert set(first.values()) == {("scripted", "scripted"), ("memory-answer@v1", "scripted")}
        await publish(tmp_path, policy="memory-manager", canary=canary(None))
        await answers(served, 1, "memory-manager")
        assert {index: await pair(served, index) for index in first} == first
        assert {await pair(served, index) for index in range(20, 60)} == {
            (one, other) for one in ("scripted", "memory-answer@v1") for other in ("scripted", "memory-manager@v1")
        }
        assert (await state(served))["canary"] is None


async def pair(served: Served, index: int) -> tuple[str, str]:
    names = (await said(served, f"s{index}", model="memory-r1"))["recollect"]["policies"]
    return names["memory-answer"], names["memory-manager"]


async def test_promote_and_rollback_end_a_canary_by_hand(tmp_path: Path) -> None:
    registry = await begun(tmp_path)
    async with serving(tmp_path, engine()) as served:
        await answers(served)
        back = await served.http.post("/v1/admin/adapters/rollback", json={"policy": "memory"})
        assert back.status_code == 200
        assert {await asked(served, f"s{index}") for index in range(20)} == {"memory@v1"}
        await served.service.canaries.look()
        assert [one.reasons for one in quarantined(registry, "memory")] == [["as canary memory@v2: it was ended by hand"]]
        await publish(tmp_path, canary=canary(), parent=1, run_id="r3")
        await answers(served, 3)
        promoted = await served.http.post("/v1/admin/adapters/promote", json={"policy": "memory", "version": 3})
        assert promoted.status_code == 200
        assert {await asked(served, f"s{index}") for index in range(20)} == {"memory@v3"}
        assert registry.retired("memory", 3) is None


async def test_a_canary_that_the_engine_cannot_take_answers_nothing_and_says_why(tmp_path: Path) -> None:
    await publish(tmp_path)
    await publish(tmp_path, canary=canary(), rank=64)
    async with serving(tmp_path, engine()) as served:
        assert {await asked(served, f"s{index}") for index in range(20)} == {"memory@v1"}
        listed = await state(served)
        assert listed["canary"]["answers"] is False
        assert "its rank is 64" in listed["versions"][1]["refused"]


async def test_while_the_log_is_of_a_newer_version_a_canary_answers_nothing_and_the_server_serves(tmp_path: Path) -> None:
    await begun(tmp_path)
    log = LogWriter(tmp_path / "trajectories", LogSettings())
    log.append(LogEvent(schema=99, event_id="e", trajectory_id="t", kind="feedback"))
    log.close()
    async with serving(tmp_path, engine()) as served:
        assert {await asked(served, f"s{index}") for index in range(20)} == {"memory@v1"}
        assert (await state(served))["canary"]["answers"] is False


async def test_an_engine_that_lost_its_adapters_is_given_the_canary_again(tmp_path: Path) -> None:
    await begun(tmp_path)
    async with serving(tmp_path, engine()) as served:
        await answers(served)
        names = {f"s{index}": await asked(served, f"s{index}") for index in range(20)}
        served.engine.adapters.clear()
        served.service.adapters.lost()
        await until(lambda: served.service.adapters.settled)
        assert {session: await asked(served, session) for session in names} == names


async def test_while_the_engine_is_away_a_canary_can_be_taken_back_and_not_promoted(tmp_path: Path) -> None:
    registry = await begun(tmp_path)
    async with serving(tmp_path, engine()) as served:
        await answers(served)
        served.engine.trouble.unhealthy = "being started again"
        await until(lambda: not served.service.adapters.settled)
        refused = await served.http.post("/v1/admin/adapters/promote", json={"policy": "memory", "version": 2})
        assert (refused.status_code, registry.canary("memory") is not None) == (503, True)
        back = await served.http.post("/v1/admin/adapters/rollback", json={"policy": "memory"})
        assert (back.status_code, registry.canary("memory"), registry.current("memory")) == (200, None, 1)


async def test_a_canary_that_learned_from_what_is_forgotten_answers_nothing_from_then_on(tmp_path: Path) -> None:
    await publish(tmp_path)
    async with serving(tmp_path, engine()) as served:
        learned = (await said(served, "told", user="bea"))["recollect"]["trajectory_id"]
        await publish(tmp_path, canary=canary(), trajectory_ids=sorted(hashes_of({learned})))
        await answers(served)
        assert {await asked(served, f"s{index}") for index in range(20)} == {"memory@v1", "memory@v2"}
        forgotten = await served.http.post("/v1/memories/forget", json={"namespace": "user/bea", "everything": True})
        assert forgotten.json()["retired"] == ["memory@v2"]
        assert {await asked(served, f"s{index}") for index in range(20)} == {"memory@v1"}


async def test_under_load_no_session_switches_while_a_canary_is_taken_up(tmp_path: Path) -> None:
    await publish(tmp_path)
    async with listening(tmp_path, engine()) as served:
        ended = asyncio.Event()
        seen: defaultdict[str, list[str]] = defaultdict(list)

        async def talker(number: int) -> None:
            turn = 0
            while not ended.is_set():
                session = f"w{number}-{turn // 3}"
                seen[session].append(await asked(served, session, user=f"u{number}"))
                turn += 1
                await asyncio.sleep(0.01)  # a client that never pauses starves the others of its pool

        talkers = [asyncio.create_task(talker(number)) for number in range(4)]
        await until(lambda: len(seen) > 8)
        await publish(tmp_path, canary=canary())
        await answers(served)
        taken_up = len(seen)
        await until(lambda: len(seen) > taken_up + 20)
        ended.set()
        await asyncio.gather(*talkers)
        assert all(len(set(names)) == 1 for names in seen.values())
        assert {names[0] for names in seen.values()} == {"memory@v1", "memory@v2"}
