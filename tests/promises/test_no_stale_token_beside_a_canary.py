"""Promise 3 beside a canary, with a real vLLM: two versions answer at once, each session one, and every token is the named one's."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest

from recollect.canary import Canary, Ended
from recollect.registry import Registry
from server.engines.child import VllmChild
from tests.api.conftest import until
from tests.api.live import listening
from tests.conftest import scaled
from tests.promises.test_no_stale_token_after_a_swap import TOKENS, WORKERS, asked, assert_answered_by, publish

pytestmark = pytest.mark.engine

TURNS = 3


async def test_each_session_has_the_tokens_of_its_version_until_the_canary_is_promoted(
    engine: VllmChild, model_folder: Path, tmp_path: Path
) -> None:
    home, registry = tmp_path / "home", Registry(tmp_path / "home" / "adapters")
    expected = {"memory@v1": await publish(registry, engine, model_folder, tmp_path / "v1", 1)}
    registry.set_current("memory", 1)
    seen: list[tuple[str, str, str, str]] = []
    async with listening(home, engine) as served:
        ended = asyncio.Event()

        async def talk(number: int) -> None:
            turn = 0
            while not ended.is_set():
                session = f"w{number}-{turn // TURNS}"
                body = {
                    "model": "memory",
                    "messages": [{"role": "user", "content": asked(number)}],
                    "metadata": {"memory": "off"},
                    "temperature": 0,
                    "max_tokens": TOKENS,
                }
                answer = await served.http.post("/v1/chat/completions", json=body, headers={"X-Session-Id": session}, timeout=300)
                assert answer.status_code == 200, answer.text
                told = answer.json()["recollect"]
                seen.append((session, asked(number), told["trajectory_id"], told["policies"]["memory"]))
                turn += 1

        async def more(answers: int) -> None:
            enough = len(seen) + answers
            await until(lambda: len(seen) >= enough or any(task.done() for task in talkers), timeout_s=300)

        talkers = [asyncio.create_task(talk(number)) for number in range(WORKERS)]
        await more(WORKERS)
        canary = Canary(over=1, share=0.5, min_rewards=50, max_hours=48, margin=0.05)
        expected["memory@v2"] = await publish(registry, engine, model_folder, tmp_path / "v2", 2, canary)
        await until(lambda: any(name == "memory@v2" for *_, name in seen), timeout_s=300)
        await more(scaled(6) * WORKERS)
        tried = len(seen)
        assert registry.end_canary("memory", 2, Ended(verdict="promoted", reason="good"))
        await served.service.adapters.refresh()
        await more(3 * WORKERS)
        ended.set()
        await asyncio.gather(*talkers)
        logged = {one.trajectory.id: one.trajectory for one in await served.logged()}

    versions: defaultdict[str, set[str]] = defaultdict(set)
    for session, _, _, name in seen[:tried]:
        versions[session].add(name)
    assert all(len(names) == 1 for names in versions.values())
    assert set[str]().union(*versions.values()) == set(expected)
    assert {name for *_, name in seen[-WORKERS:]} == {"memory@v2"}
    for _, question, trajectory_id, name in seen:
        [step] = logged[trajectory_id].steps
        assert step.policy is not None
        assert step.policy.name == name
        assert_answered_by(step, expected[name][question])
