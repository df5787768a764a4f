"""Codex as a provider, with a script in its place: what it is given, what is read of it, and that it is ended."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from memory_store.store import LanceMemoryStore
from recollect.errors import EngineError, EngineUnavailable, InvalidRequest
from recollect.memory import Namespace
from recollect.messages import Message, assistant, user
from server.agents.base import AgentContext, AgentRequest
from server.agents.recorder import Recorder
from server.delegation.codex import CodexDelegate, environment, folder_of
from server.delegation.plan import CodexProvider, ModelConfig
from server.engines.scripted import ScriptedEngine
from tests.api.conftest import until

SCRIPT = """#!/bin/sh
printf '%s\\n' "$@" > {folder}/arguments
env > {folder}/environment
pwd > {folder}/where
cat > {folder}/task
echo '{{"type":"thread.started","thread_id":"t-1"}}'
echo 'not json'
{middle}
"""
ANSWER = """
echo '{"type":"item.completed","item":{"id":"i","type":"agent_message","text":"Looking."}}'
echo '{"type":"item.completed","item":{"id":"j","type":"agent_message","text":"It is blue."}}'
echo '{"type":"turn.completed","usage":{"input_tokens":70,"cached_input_tokens":9,"output_tokens":7}}'
"""


def provider(tmp_path: Path, middle: str, **more: object) -> CodexProvider:
    script = tmp_path / "codex"
    script.write_text(SCRIPT.format(folder=tmp_path, middle=middle))
    script.chmod(0o700)
    (tmp_path / "work").mkdir()
    return CodexProvider(kind="codex", command=str(script), folders=(tmp_path / "work",), models={"m": ModelConfig()}, **more)  # pyright: ignore[reportArgumentType]


async def asked(delegate: CodexDelegate, tmp_path: Path, *messages: Message) -> tuple[str, AgentContext]:
    store = LanceMemoryStore(str(tmp_path / "memory"), None)
    ctx = AgentContext(ScriptedEngine(), store, Namespace(), {}, Recorder())
    events = [event async for event in delegate.run(AgentRequest(messages or (user("What colour?"),)), ctx)]
    return "".join(event.text for event in events), ctx


async def _unheard(_: str) -> None:
    return


def delegate_of(found: CodexProvider, began: Callable[[str], Awaitable[None]] = _unheard, **more: Any) -> CodexDelegate:
    return CodexDelegate("codex/m", "m", found, folder_of(found, None), began, **more)


async def test_it_is_asked_in_its_folder_and_its_last_word_is_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("RECOLLECT_SECRET", "no business of codex")
    threads: list[str] = []

    async def began(thread: str) -> None:
        threads.append(thread)

    answer, ctx = await asked(delegate_of(provider(tmp_path, ANSWER), began, effort="high"), tmp_path)
    assert answer == "It is blue."
    [step] = ctx.recorder.steps
    assert (step.usage.prompt_tokens, step.usage.completion_tokens, step.completion_ids) == (70, 7, None)
    assert threads == ["t-1"]
    assert (tmp_path / "task").read_text() == "What colour?"
    assert (tmp_path / "where").read_text().strip() == str(tmp_path / "work")
    told = (tmp_path / "arguments").read_text().splitlines()
    assert told[:1] == ["exec"]
    assert told[-1] == "-"
    assert {'sandbox_mode="read-only"', 'approval_policy="never"', 'model_reasoning_effort="high"'} <= set(told)
    given = (tmp_path / "environment").read_text()
    assert "OPENAI_API_KEY=sk-1" in given
    assert "RECOLLECT_SECRET" not in given


async def test_a_worker_goes_on_with_its_thread(tmp_path: Path) -> None:
    await asked(delegate_of(provider(tmp_path, ANSWER), thread="t-1"), tmp_path)
    told = (tmp_path / "arguments").read_text().splitlines()
    assert told[:2] == ["exec", "resume"]
    assert told[-2:] == ["t-1", "-"]


TALK = (user("Read it."), assistant("I did."), user("And now?"), user("In one word."))


@pytest.mark.parametrize(
    ("thread", "told"), [("t-1", "And now?\n\nIn one word."), (None, "user: Read it.\n\nassistant: I did.\n\nuser: And now?")]
)
async def test_it_is_told_the_conversation_or_what_its_thread_has_not_answered(tmp_path: Path, thread: str | None, told: str) -> None:
    await asked(delegate_of(provider(tmp_path, ANSWER), thread=thread), tmp_path, *TALK)
    assert (tmp_path / "task").read_text().startswith(told)


@pytest.mark.parametrize(
    ("middle", "told"),
    [
        ("""echo '{"type":"turn.failed","error":{"message":"no credit"}}'""", "no credit"),
        ("exit 3", "status 3"),
        ("""echo '{"type":"error","message":"quota exceeded"}'; exit 3""", "quota exceeded"),
        ("true", "it said nothing"),
    ],
)
async def test_its_failure_is_told(tmp_path: Path, middle: str, told: str) -> None:
    with pytest.raises(EngineError, match=told):
        await asked(delegate_of(provider(tmp_path, middle)), tmp_path)


async def test_one_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = provider(tmp_path, ANSWER).model_copy(update={"command": str(tmp_path / "nothing")})
    with pytest.raises(EngineUnavailable, match="cannot be started"):
        await asked(delegate_of(found), tmp_path)


async def test_when_it_is_given_up_it_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    middle = f"sleep 300 & echo $! > {tmp_path}/child; wait"
    asking = asyncio.create_task(asked(delegate_of(provider(tmp_path, middle)), tmp_path))
    written = tmp_path / "child"
    await until(lambda: written.exists() and written.read_text().endswith("\n"))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    child = int(written.read_text())
    for _ in range(100):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return
        await asyncio.sleep(0.05)
    pytest.fail("what codex had started still runs")


async def test_what_it_leaves_running_does_not_hold_its_answer_back(tmp_path: Path) -> None:
    middle = ANSWER + f"sleep 300 & echo $! > {tmp_path}/child"
    async with asyncio.timeout(20):
        answer, _ = await asked(delegate_of(provider(tmp_path, middle)), tmp_path)
    assert answer == "It is blue."


def test_it_works_in_its_folders_alone(tmp_path: Path) -> None:
    found = provider(tmp_path, ANSWER)
    (tmp_path / "work" / "inner").mkdir()
    assert folder_of(found, str(tmp_path / "work" / "inner")) == tmp_path / "work" / "inner"
    os.symlink(tmp_path, tmp_path / "work" / "out")
    for wrong in (str(tmp_path), str(tmp_path / "work" / "out"), "work", str(tmp_path / "work" / "none")):
        with pytest.raises(InvalidRequest):
            folder_of(found, wrong)
    assert json.dumps(environment(found, {"HOME": "/h", "AWS_SECRET": "x"})) == '{"HOME": "/h"}'
