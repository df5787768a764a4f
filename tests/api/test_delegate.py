"""Work that is handed on by MCP at `/delegate/mcp`: questions, images and tasks."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from server.delegation.plan import load
from server.engines.scripted import ScriptedCall, ScriptedEngine, Spoken
from tests.api.delegating import ALL, delegating, results, uses
from tests.api.live import listening
from tests.api.test_mcp import CHARACTERS_A_TOKEN, TOKENS


async def test_a_thought_is_another_models_answer_and_a_trajectory(tmp_path: Path) -> None:
    async with delegating(tmp_path, lambda _: "Forty-two.") as place:
        thought = await place.call("think", task="What is six times seven?", use="house")
        assert (thought["answer"], thought["model"], thought["failed"]) == ("Forty-two.", "house/scripted", [])
        [logged] = await place.served.logged()
        found = logged.trajectory
        assert (found.id, found.agent, found.trainable) == (thought["trajectory_id"], "delegate/house/scripted", False)
        assert [step.text for step in found.steps] == ["Forty-two."]
        [entry] = place.audit()
        assert (entry["call"], entry["decision"], entry["target"], entry["ok"]) == ("think", "allowed", "house/scripted", True)
        assert entry["trajectory_id"] == found.id
        assert "seven" not in json.dumps(entry)
        own = await place.call("think", task="Who are you?", use="own/memory")
        assert own["answer"] == "Who are you?"


async def test_nothing_is_allowed_that_the_plan_does_not_name(tmp_path: Path) -> None:
    def changed(plan: dict[str, Any]) -> None:
        plan["allow"] = ["see"]

    async with delegating(tmp_path, lambda _: "No.", changed=changed) as place:
        assert "name think under allow" in await place.refusal("think", task="Hello?")
        assert "name spawn_agent under allow" in await place.refusal("spawn_agent", description="x", task="Hello?")
        assert [(entry["call"], entry["decision"]) for entry in place.audit()] == [("think", "denied"), ("spawn_agent", "denied")]
        assert place.peer.calls == []


async def test_only_tenants_that_the_plan_names_may_ask(tmp_path: Path) -> None:
    def changed(plan: dict[str, Any]) -> None:
        plan["tenants"] = ["acme"]

    async with delegating(tmp_path, lambda _: "No.", changed=changed) as place:
        for tool, arguments in (("think", {"task": "Hello?"}), ("providers", {}), ("list_agents", {})):
            assert "name it under tenants" in await place.refusal(tool, **arguments)
        assert [(entry["call"], entry["decision"]) for entry in place.audit()] == [
            ("think", "denied"),
            ("providers", "denied"),
            ("list_agents", "denied"),
        ]
        assert place.peer.calls == []


async def test_rules_choose_and_where_one_fails_the_next_is_asked(tmp_path: Path) -> None:
    def changed(plan: dict[str, Any]) -> None:
        plan["providers"]["gone"] = {"kind": "ollama", "url": "http://127.0.0.1:9", "models": {"small": {}}}
        plan["routing"] = [{"task": ["code"], "use": ["gone", "house"]}, {"max_chars": 5, "use": ["own"]}, {"use": ["house"]}]

    async with delegating(tmp_path, lambda _: "Done.", changed=changed) as place:
        first = await place.call("think", task="Write a loop.", task_type="code")
        assert (first["model"], first["failed"]) == ("house/scripted", ["gone/small"])
        again = await place.call("think", task="Write a loop.", task_type="code")
        assert (again["model"], again["failed"]) == ("house/scripted", [])  # gone is passed over for a while
        assert (await place.call("think", task="Hi"))["model"] == "own/memory"
        assert "no answer from" in await place.refusal("think", task="Hi", use="gone/small")
        listed = await place.call("providers")
        ready = {model["model"]: model["ready"] for model in listed["models"]}
        assert ready == {"house/scripted": True, "own/memory": True, "gone/small": False}
        assert listed["allow"] == ALL


async def test_a_task_is_done_with_files_and_memory_and_is_remembered(tmp_path: Path) -> None:
    def answer(asked: ScriptedCall) -> str | Spoken:
        found = results(asked)
        if not found:
            return uses("search_files", text="launch")
        if len(found) == 1:
            return uses("add_memory", text="The launch was moved to Tuesday.")
        return f"It is on Tuesday ({found[0]})."

    async with delegating(tmp_path, answer) as place:
        done = await place.call("agent_task", task="When is the launch?", use="house")
        assert (done["state"], done["error"]) == ("done", "")
        assert "notes.txt:1: The launch is on Tuesday." in done["answer"]
        [logged] = await place.served.logged()
        assert [step.role for step in logged.trajectory.steps] == ["worker", "worker", "tool", "worker", "tool"]
        listed = (await place.served.http.get("/v1/memories")).json()["data"]
        assert {memory["text"] for memory in listed} == {
            "The launch was moved to Tuesday.",
            f"Asked: When is the launch?\nFound: {done['answer']}",
        }
        assert {(memory["trust"], memory["tags"][0]) for memory in listed} == {("assistant", "delegation")}
        [task] = place.audit("task")
        assert (task["target"], task["ok"], task["tokens"] > 0) == ("house/scripted", True, True)
        inner = [entry for entry in place.audit() if entry["call"].startswith("worker.")]
        assert [(entry["call"], entry.get("path")) for entry in inner] == [("worker.search_files", "."), ("worker.add_memory", None)]
        place.peer.calls.clear()
        await place.call("agent_task", task="Tell me about the launch again.", use="house")
        assert "The launch was moved to Tuesday." in place.peer.calls[0].messages[1].content


async def test_what_the_server_keeps_is_not_read(tmp_path: Path) -> None:
    def changed(plan: dict[str, Any]) -> None:
        plan["roots"] = [str(tmp_path)]

    calls = iter([uses("read_file", path="home/server.json"), uses("list_files", path="home"), uses("search_files", text="e")])
    async with delegating(tmp_path, lambda _: next(calls, "\n"), changed=changed) as place:
        (place.served.home / "server.json").write_text("canary-7731")
        place.peer.answer = lambda asked: next(calls, "|".join(results(asked)))
        done = await place.call("agent_task", task="Read it.", use="house")
        assert done["answer"].startswith("error: the path is kept from workers")
        assert "canary" not in done["answer"]
        assert "home/" not in done["answer"]


@pytest.mark.parametrize("path", ["x" * 300, "notes.txt/../notes.txt\0", "."])
async def test_an_odd_path_is_told_to_the_model(tmp_path: Path, path: str) -> None:
    async with delegating(tmp_path, lambda asked: results(asked)[0] if results(asked) else uses("read_file", path=path)) as place:
        done = await place.call("agent_task", task="Read it.", use="house")
        assert (done["state"], done["answer"].startswith("error: ")) == ("done", True)


@pytest.mark.parametrize("path", ["../secret.txt", "/etc/passwd", "link.txt", ".env", "sub/../../secret.txt", "id_rsa", ".git/config"])
async def test_files_outside_and_secret_ones_are_not_read(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.txt").write_text("canary-7731")

    async with delegating(tmp_path, lambda asked: results(asked)[0] if results(asked) else uses("read_file", path=path)) as place:
        (place.roots / "link.txt").symlink_to(tmp_path / "secret.txt")
        (place.roots / ".git").mkdir()
        for name in (".env", "id_rsa", ".git/config"):
            (place.roots / name).write_text("canary-7731")
        done = await place.call("agent_task", task="Read it.", use="house")
        assert done["answer"].startswith("error: ")
        assert "canary" not in done["answer"]
        [refused] = place.audit("worker.read_file")
        assert (refused["ok"], "path" in refused) == (False, False)
        assert refused["decision"] == "denied"


async def test_a_model_that_takes_too_long_is_passed_over(tmp_path: Path) -> None:
    def changed(plan: dict[str, Any]) -> None:
        plan["providers"]["house"]["timeout_s"] = 0.2
        plan["routing"] = [{"use": ["house", "own"]}]

    async with delegating(tmp_path, lambda _: "Late.", changed=changed) as place:
        place.peer.trouble.hold = asyncio.Event()
        thought = await place.call("think", task="Hello.")
        assert (thought["model"], thought["failed"]) == ("own/memory", ["house/scripted"])


async def test_calls_in_plain_text_are_read_too(tmp_path: Path) -> None:
    def changed(plan: dict[str, Any]) -> None:
        plan["providers"]["house"]["models"]["scripted"]["tools"] = "text"

    def answer(asked: ScriptedCall) -> str:
        last = asked.messages[-1].content
        return (
            last.splitlines()[1] if last.startswith("Result of the tool") else '{"tool": "read_file", "arguments": {"path": "notes.txt"}}'
        )

    async with delegating(tmp_path, answer, changed=changed) as place:
        done = await place.call("agent_task", task="Read the notes.", use="house")
        assert done["answer"] == "The launch is on Tuesday."
        assert all(asked.tools is None for asked in place.peer.calls)


async def test_the_servers_own_model_works_too_and_its_tokens_are_kept(tmp_path: Path) -> None:
    engine = ScriptedEngine(answer=lambda asked: results(asked)[0] if results(asked) else uses("list_files"))
    async with delegating(tmp_path, lambda _: "No.", engine=engine) as place:
        done = await place.call("agent_task", task="What is there?", use="own/memory")
        assert done["answer"] == "notes.txt (38 bytes)"
        [logged] = await place.served.logged()
        assert logged.trajectory.trainable
        assert all(step.completion_ids for step in logged.trajectory.steps if step.role == "worker")


PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


async def test_an_image_is_looked_at_by_a_model_that_sees(tmp_path: Path) -> None:
    async with delegating(tmp_path, lambda asked: f"{sum(m.image is not None for m in asked.messages)} image") as place:
        seen = await place.call("see", image=f"data:image/png;base64,{PNG}", question="What is it?")
        assert (seen["answer"], seen["model"]) == ("1 image", "house/scripted")
        assert "outside" in await place.refusal("see", image="/etc/passwd")
        assert [entry["decision"] for entry in place.audit("see")] == ["allowed", "denied"]
        assert "no PNG" in await place.refusal("see", image="notes.txt")
        assert "takes no images" in await place.refusal("see", image=f"data:image/png;base64,{PNG}", use="own")


async def test_the_tools_of_the_profile_are_annotated_structured_and_short(tmp_path: Path) -> None:
    async with delegating(tmp_path, lambda _: "") as place:
        tools = (await place.client.list_tools()).tools
        assert [tool.name for tool in tools] == [
            "think", "see", "agent_task", "providers", "spawn_agent",
            "send_agent_input", "wait_agent", "list_agents", "close_agent", "get_status",
        ]  # fmt: skip
        for tool in tools:
            assert tool.description
            assert tool.output_schema
            assert tool.annotations is not None
            assert tool.annotations.title
        reading = {tool.name for tool in tools if tool.annotations and tool.annotations.read_only_hint}
        assert reading == {"providers", "wait_agent", "list_agents", "get_status"}
        beyond = {tool.name for tool in tools if tool.annotations and tool.annotations.open_world_hint}
        assert beyond == {"think", "see", "agent_task", "spawn_agent", "send_agent_input"}
        sent = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
        assert len(json.dumps(sent, separators=(",", ":"))) / CHARACTERS_A_TOKEN < TOKENS


async def test_without_a_plan_there_is_no_such_profile(tmp_path: Path) -> None:
    async with listening(tmp_path / "home", ScriptedEngine()) as served:
        assert (await served.http.post("/delegate/mcp", json={})).status_code == 404


async def test_the_plan_is_a_resource_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_KEY", "sk-secret-4711")

    def changed(plan: dict[str, Any]) -> None:
        plan["providers"]["house"]["api_key_env"] = "HOUSE_KEY"
        plan["types"] = {"reviewer": {"instructions": "Find faults.", "use": "house", "tools": ["read_file"]}}

    async with delegating(tmp_path, lambda _: "Fine.", changed=changed) as place:
        [content] = (await place.client.read_resource("recollect://delegation/current")).contents
        text = getattr(content, "text", "")
        assert "tenants" not in json.loads(text)
        assert json.loads(text)["providers"]["house"]["api_key_env"] == "HOUSE_KEY"
        assert "sk-secret" not in text
        await place.call("agent_task", task="Review it.", type="reviewer")
        [asked] = place.peer.calls
        assert "Find faults." in asked.messages[0].content
        assert asked.tools is not None
        assert [tool.name for tool in asked.tools.offered] == ["read_file"]
        assert "no type 'critic'" in await place.refusal("agent_task", task="Review it.", type="critic")


def test_the_page_on_delegation_names_tests_that_there_are() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "delegation.md").read_text()
    code = "".join((root / "tests" / "api" / name).read_text() for name in ("test_delegate.py", "test_delegate_workers.py", "test_mcp.py"))
    named = set(re.findall(r"`(test_[a-z_]+)`", page))
    assert len(named) > 10
    assert [name for name in named if f"def {name}(" not in code] == []
    theirs = [
        name
        for row in page.split("## Beside")[1].splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert len(theirs) == len(set(theirs)) == 28
    load(root / "examples" / "delegation.yaml")
