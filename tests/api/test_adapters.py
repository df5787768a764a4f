"""Adapters: a version is loaded, checked, served by its own name, drained and unloaded, and no request notices."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openai import APIError

from recollect.learned import LEARNED
from recollect.registry import WEIGHTS, Registry
from recollect.retired import Retired
from recollect.train_lock import exclusive
from server.engines.scripted import ScriptedEngine, Trouble
from tests.api.conftest import Served, serving, until
from tests.api.live import listening
from tests.api.published import MARKER, by_version, publish


async def state(served: Served) -> dict[str, Any]:
    return listed(await served.http.get("/v1/admin/adapters"))


def listed(response: Any) -> dict[str, Any]:
    """The state of the policy that these tests publish; those of other agents stay at the base."""
    by_policy = {one["policy"]: one for one in response.json()["data"]}
    assert {by_policy[name]["current"] for name in by_policy if name != "memory"} == {None}
    return by_policy["memory"]


async def promote(served: Served, version: int | None) -> Any:
    return await served.http.post("/v1/admin/adapters/promote", json={"policy": "memory", "version": version})


async def test_the_current_version_is_loaded_before_the_server_is_ready(tmp_path: Path) -> None:
    await publish(tmp_path)
    async with serving(tmp_path, ScriptedEngine(answer=by_version)) as served:
        assert list(served.engine.adapters) == ["memory@v1"]
        answer = await served.ask("hello")
        assert answer["recollect"]["policies"] == {"memory": "memory@v1"}
        assert answer["choices"][0]["message"]["content"].endswith("memory@v1")
        [logged] = await served.logged()
        assert logged.trajectory.steps[0].policy is not None
        assert logged.trajectory.steps[0].policy.name == "memory@v1"
        assert (await served.http.get("/ready")).json()["policies"] == {
            "memory": "memory@v1",
            "memory-answer": "scripted",
            "memory-manager": "scripted",
        }


async def test_a_version_that_becomes_current_is_taken_up_by_itself(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine(answer=by_version)) as served:
        assert (await served.ask("hello"))["recollect"]["policies"] == {"memory": "scripted"}
        await publish(tmp_path)
        await until(lambda: "memory@v1" in served.engine.adapters)
        await until(lambda: served.service.adapters.pin(["memory"], "local").policies["memory"].version == 1)


async def test_promote_and_rollback_answer_when_the_version_serves_and_the_old_one_is_unloaded(tmp_path: Path) -> None:
    for _ in range(2):
        await publish(tmp_path, make_current=False)
    async with serving(tmp_path, ScriptedEngine(answer=by_version)) as served:
        for version in (1, 2):
            answer = await promote(served, version)
            assert answer.status_code == 200
            found = listed(answer)
            assert (found["current"], found["serving"]) == (version, f"memory@v{version}")
            assert (await served.ask("hello"))["recollect"]["policies"] == {"memory": f"memory@v{version}"}
        await until(lambda: list(served.engine.adapters) == ["memory@v2"])
        back = await served.http.post("/v1/admin/adapters/rollback", json={"policy": "memory"})
        assert listed(back)["serving"] == "memory@v1"
        assert listed(await promote(served, None))["serving"] == "scripted"
        await until(lambda: not served.engine.adapters)
        assert (await served.ask("hello"))["recollect"]["policies"] == {"memory": "scripted"}


async def test_a_request_keeps_the_version_it_began_with_and_that_is_unloaded_only_after_it(tmp_path: Path) -> None:
    for _ in range(2):
        await publish(tmp_path, make_current=False)
    async with listening(tmp_path, ScriptedEngine(answer=by_version)) as served:
        await promote(served, 1)
        served.engine.trouble.hold = asyncio.Event()
        began = asyncio.create_task(served.ask("hello"))
        await until(lambda: served.engine.in_flight == 1)
        # The fingerprint of the next version must pass while the old request is held back.
        held, served.engine.trouble.hold = served.engine.trouble.hold, None
        await promote(served, 2)
        listed = {version["version"]: version for version in (await state(served))["versions"]}
        assert (listed[1]["loaded"], listed[1]["in_flight"]) == (True, 1)
        assert (await served.ask("hello"))["recollect"]["policies"] == {"memory": "memory@v2"}
        assert sorted(served.engine.adapters) == ["memory@v1", "memory@v2"]
        held.set()
        answer = await began
        assert answer["recollect"]["policies"] == {"memory": "memory@v1"}
        assert answer["choices"][0]["message"]["content"].endswith("memory@v1")
        await until(lambda: list(served.engine.adapters) == ["memory@v2"])
        listed = {version["version"]: version for version in (await state(served))["versions"]}
        assert (listed[1]["loaded"], listed[1]["in_flight"]) == (False, 0)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"base": "another/model"}, "trained on 'another/model', but the engine's base model is 'scripted'"),
        ({"rank": 64}, "its rank is 64, the engine takes at most 16; raise engine.max_lora_rank"),
        ({"answer": lambda call: "something else"}, "does not answer as its manifest says: probe 1: the greedy tokens differ"),
    ],
)
async def test_a_version_that_does_not_fit_is_refused_with_the_reason_and_the_old_one_serves_on(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    await publish(tmp_path)
    await publish(tmp_path, make_current=False, **changed)
    async with serving(tmp_path, ScriptedEngine(answer=by_version)) as served:
        refused = await promote(served, 2)
        assert refused.status_code == 409
        assert reason in refused.json()["error"]["message"]
        assert (await state(served))["current"] == 1
        Registry(tmp_path / "adapters").set_current("memory", 2)
        await served.service.adapters.refresh()
        listed = await state(served)
        assert (listed["current"], listed["serving"]) == (2, "memory@v1")
        assert reason in listed["versions"][1]["refused"]
        assert list(served.engine.adapters) == ["memory@v1"]
        assert (await served.ask("hello"))["recollect"]["policies"] == {"memory": "memory@v1"}


async def test_weights_that_were_changed_on_disk_are_refused_and_the_parent_serves(tmp_path: Path) -> None:
    await publish(tmp_path)
    await publish(tmp_path)
    (Registry(tmp_path / "adapters").path("memory", 2) / WEIGHTS).write_bytes(b"other weights")
    async with serving(tmp_path, ScriptedEngine(answer=by_version)) as served:
        listed = await state(served)
        assert (listed["current"], listed["serving"]) == (2, "memory@v1")
        assert "is not what the manifest names" in listed["versions"][1]["refused"]


async def test_a_broken_pointer_leaves_things_as_they_are(tmp_path: Path) -> None:
    await publish(tmp_path)
    async with serving(tmp_path, ScriptedEngine(answer=by_version)) as served:
        (tmp_path / "adapters" / "local" / "memory" / "current").write_text("nonsense")
        await served.service.adapters.refresh()
        assert (await state(served))["serving"] == "memory@v1"
        assert (await promote(served, 1)).status_code == 200
        assert (await state(served))["current"] == 1


async def test_an_engine_that_lost_its_adapters_gets_them_again_before_it_answers(tmp_path: Path) -> None:
    await publish(tmp_path)
    async with serving(tmp_path, ScriptedEngine(answer=by_version)) as served:
        served.engine.adapters.clear()
        answer = await served.http.post("/v1/chat/completions", json={"model": "memory", "messages": [{"role": "user", "content": "x"}]})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        await until(lambda: served.service.adapters.settled)
        assert (await served.ask("hello"))["recollect"]["policies"] == {"memory": "memory@v1"}


async def test_an_engine_that_went_away_is_given_its_adapters_before_the_server_is_ready_again(tmp_path: Path) -> None:
    await publish(tmp_path)
    async with serving(tmp_path, ScriptedEngine(answer=by_version)) as served:
        served.engine.trouble.unhealthy = "being started again"
        for _ in range(3):
            await served.service.adapters.refresh()
        assert (await served.http.get("/ready")).status_code == 503
        served.engine.adapters.clear()
        served.engine.trouble.unhealthy = ""
        await until(lambda: served.service.adapters.settled)
        assert list(served.engine.adapters) == ["memory@v1"]


async def test_an_engine_that_misses_one_health_check_goes_on_answering(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine()) as served:
        served.engine.trouble.unhealthy = "too busy to answer in time"
        await served.service.adapters.refresh()
        served.engine.trouble.unhealthy = ""
        await served.ask("hello")


async def test_an_engine_without_ids_takes_no_adapters(tmp_path: Path) -> None:
    await publish(tmp_path)
    async with serving(tmp_path, ScriptedEngine(exact=False)) as served:
        listed = await state(served)
        assert listed["serving"] == "scripted"
        assert "takes no adapters" in listed["versions"][0]["refused"]
        await served.ask("hello")
        [logged] = await served.logged()
        assert logged.trajectory.trainable is False


async def test_swaps_under_streaming_load_fail_no_request_and_leave_no_stale_token(tmp_path: Path) -> None:
    versions = 4
    for _ in range(versions):
        await publish(tmp_path, make_current=False)
    async with listening(tmp_path, ScriptedEngine(answer=by_version, trouble=Trouble(delay_s=0.001))) as served:
        await promote(served, 1)
        ended = asyncio.Event()
        flips: list[tuple[float, int]] = [(0.0, 1)]
        clock = asyncio.get_running_loop().time
        seen: list[tuple[float, str, str]] = []
        failures: list[APIError] = []

        async def worker(number: int) -> None:
            while not ended.is_set():
                began, text, policy = clock(), "", ""
                try:
                    stream = await served.openai.chat.completions.create(
                        model="memory", messages=[{"role": "user", "content": "hello"}], user=f"u{number}", stream=True
                    )
                    async for chunk in stream:
                        text += chunk.choices[0].delta.content or ""
                        policy = (chunk.model_extra or {}).get("recollect", {}).get("policies", {}).get("memory", policy)
                except APIError as exc:
                    failures.append(exc)
                seen.append((began, policy, text))

        workers = [asyncio.create_task(worker(number)) for number in range(8)]
        for version in (2, 3, 4, 1, 4):
            answered = len(seen)
            await until(lambda answered=answered: len(seen) >= answered + 8)
            assert (await promote(served, version)).status_code == 200
            flips.append((clock(), version))
        answered = len(seen)
        await until(lambda: len(seen) >= answered + 8)
        ended.set()
        await asyncio.gather(*workers)
        assert failures == []
        for began, policy, text in seen:
            assert text == " ".join([MARKER, *[policy] * 20])
            allowed = {f"memory@v{version}" for at, version in flips if at > began} | {
                f"memory@v{[v for at, v in flips if at <= began][-1]}"
            }
            assert policy in allowed
        assert {policy for _, policy, _ in seen} == {f"memory@v{version}" for version in (1, 2, 3, 4)}
        await until(lambda: list(served.engine.adapters) == ["memory@v4"])


async def test_a_retired_version_answers_nothing_new_and_its_weights_go_when_the_last_request_has_ended(tmp_path: Path) -> None:
    for _ in range(3):
        await publish(tmp_path)
    registry = Registry(tmp_path / "adapters")
    async with listening(tmp_path, ScriptedEngine(answer=by_version)) as served:
        served.engine.trouble.hold = asyncio.Event()
        began = asyncio.create_task(served.ask("hello"))
        await until(lambda: served.engine.in_flight == 1)
        held, served.engine.trouble.hold = served.engine.trouble.hold, None
        why = Retired(certificate="c1", reason=LEARNED)
        assert registry.retire("memory", {2: why, 3: why}) == 3
        await served.service.adapters.refresh()
        assert (await served.ask("hello"))["recollect"]["policies"] == {"memory": "memory@v1"}
        assert registry.retired_weights() == [("memory", 3)]
        listed = await state(served)
        assert (listed["current"], [one["retired"] for one in listed["versions"]]) == (1, [None, LEARNED, LEARNED])
        held.set()
        assert (await began)["recollect"]["policies"] == {"memory": "memory@v3"}
        await until(lambda: registry.retired_weights() == [])
        refused = await promote(served, 3)
        assert refused.status_code == 409
        assert "memory@v3 is retired: learned from forgotten data" in refused.json()["error"]["message"]
        assert (await state(served))["serving"] == "memory@v1"


async def test_a_retired_version_is_not_served_on_when_what_takes_its_place_does_not_fit(tmp_path: Path) -> None:
    await publish(tmp_path, rank=64)
    await publish(tmp_path)
    async with serving(tmp_path, ScriptedEngine(answer=by_version)) as served:
        assert (await state(served))["serving"] == "memory@v2"
        Registry(tmp_path / "adapters").retire("memory", {2: Retired(certificate="c1", reason=LEARNED)})
        await served.service.adapters.refresh()
        listed = await state(served)
        assert (listed["current"], listed["serving"]) == (1, "scripted")


async def test_the_weights_of_retired_versions_wait_for_a_trainer(tmp_path: Path) -> None:
    await publish(tmp_path)
    registry = Registry(tmp_path / "adapters")
    registry.retire("memory", {1: Retired(certificate="c1", reason=LEARNED)})
    with exclusive(tmp_path):
        async with serving(tmp_path, ScriptedEngine(answer=by_version)) as served:
            await served.service.adapters.refresh()
            assert registry.retired_weights() == [("memory", 1)]
    async with serving(tmp_path, kind="none"):
        await until(lambda: registry.retired_weights() == [])
