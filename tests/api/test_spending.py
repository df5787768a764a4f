"""Model calls are counted and shown, those after an answer have a limit, and by default there are none."""

from __future__ import annotations

import json
from pathlib import Path

from recollect.memory import Namespace
from server.engines.scripted import ScriptedCall, ScriptedEngine
from tests.api.conftest import Served, serving, until

ADA = Namespace(parts=(("user", "ada"),))


def decides(call: ScriptedCall) -> str:
    asked = call.messages[-1].content
    return f"ADD {asked.partition('Turn: ')[2].partition(chr(10))[0]}" if asked.endswith("Operations:") else "Noted."


async def say(running: Served, text: str, model: str = "memory", **body: object) -> dict[str, object]:
    answer = await running.ask(text, model=model, user="ada", **body)
    await until(lambda: len(running.service.chat.pending) == 0)
    return answer["recollect"]["spent"]


async def test_by_default_a_request_makes_one_model_call_and_none_afterwards(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        spent = await say(running, "My locker code is 4821.")
        assert len(running.engine.calls) == 1
        assert list(spent) == ["answerer"]
        budget = (await running.service.status()).budget
        assert budget.today.after_answers.calls == 0
        assert {role: one.calls for role, one in budget.today.agents["memory"].items()} == {"answerer": 1}


async def test_calls_after_answers_are_counted_by_agent_and_role_and_survive_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine(answer=decides), agents={"writing": "operations"}) as running:
        await say(running, "My locker code is 4821.")
        await say(running, "My dog is Tarvo.")
        await say(running, "Nobody remembers this.", metadata={"memory": "off"})
        shown = (await running.http.get("/ready")).json()["budget"]
        calls = {role: one["calls"] for role, one in shown["today"]["agents"]["memory"].items()}
        assert calls == {"answerer": 3, "updater": 2}
        assert shown["today"]["after_answers"]["calls"] == 2
        assert shown["today"]["after_answers"]["prompt_tokens"] > 0
    async with serving(tmp_path, ScriptedEngine(answer=decides), agents={"writing": "operations"}) as running:
        assert (await running.service.status()).budget.today.after_answers.calls == 2
    stored = json.loads((tmp_path / "usage.json").read_text())
    assert "locker" not in json.dumps(stored)


async def test_when_the_budget_is_used_up_turns_are_kept_as_they_were_said(tmp_path: Path) -> None:
    agents = {"writing": "operations", "daily_calls": 1}
    async with serving(tmp_path, ScriptedEngine(answer=decides), agents=agents) as running:
        await say(running, "My locker code is 4821.")
        assert (await running.service.status()).budget.used_up
        await say(running, "My dog is Tarvo.")
        await say(running, "My cat is Merin.", model="memory-r1")
        assert sum(call.messages[-1].content.endswith("Operations:") for call in running.engine.calls) == 1
        kept = {record.text: record.kind for record in await running.service.memories.list(ADA, limit=100)}
        assert kept == {"My locker code is 4821.": "semantic", "My dog is Tarvo.": "episodic", "My cat is Merin.": "episodic"}
        by_text = {one.trajectory.request[-1].content: one.trajectory.steps for one in await running.logged()}
        assert [step.role for step in by_text["My dog is Tarvo."]] == ["answerer", "writer"]


async def test_tokens_may_be_the_limit(tmp_path: Path) -> None:
    agents = {"writing": "operations", "daily_tokens": 5}
    async with serving(tmp_path, ScriptedEngine(answer=decides), agents=agents) as running:
        await say(running, "My locker code is 4821.")
        await say(running, "My dog is Tarvo.")
        assert (await running.service.status()).budget.today.after_answers.calls == 1


async def test_a_damaged_count_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "usage.json").write_text('{"day": 3')
    async with serving(tmp_path) as running:
        await say(running, "hello")
        assert (await running.service.status()).budget.today.agents["memory"]["answerer"].calls == 1
