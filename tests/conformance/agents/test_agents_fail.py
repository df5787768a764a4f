"""Every part of every agent failing in turn: each model call, each embedding, each commit.

The client gets a typed error and never an empty answer; what fails after the answer has gone out is told by the log. Nothing that was
acknowledged is lost, no turn is kept in part, and the same request asked again is answered and kept once.
"""

from __future__ import annotations

import json
from itertools import count, product
from typing import Any

import pytest

from recollect.errors import Conflict, ContextTooLong, EmbedderError, EngineError, EngineUnavailable, RecollectError, StorageFull
from recollect.trajectory import Trajectory
from tests.conformance.agents.cases import SEEDED, Case, Run, running, user_named

ENGINE = ((EngineUnavailable("the engine is away"), True), (EngineError("the engine answered 500"), False), (ContextTooLong(9, 8), False))
STORE = (StorageFull("the disk is full"), Conflict("somebody else wrote it"))
GARBAGE = ("", "\ufffd{[(\x00 <think>", '{"operations": [{"op": "delete", "id": 99}]}]]', "DELETE 77\nUPDATE x\n**Answer:**", "[99, 0]")


async def _answered(run: Run, name: str, *, stream: bool) -> tuple[str, str | None]:
    """What a client sees: the text, and the code of the error if there is one. An answer without an error has its end."""
    body = {"model": run.case.model, "messages": run.case.wire, "user": name, "stream": stream}
    answer = await run.served.http.post("/v1/chat/completions", json=body)
    assert answer.status_code < 600
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error["message"]
        return "", error["code"]
    if not stream:
        return answer.json()["choices"][0]["message"]["content"], None
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    events: list[dict[str, Any]] = [json.loads(line) for line in data if line != "[DONE]"]
    text = "".join(choice["delta"].get("content", "") for event in events for choice in event.get("choices", ()))
    errors = [event["error"]["code"] for event in events if "error" in event]
    assert ("[DONE]" in data) == (not errors)
    return text, errors[0] if errors else None


async def _last(run: Run) -> Trajectory:
    return (await run.served.logged())[-1].trajectory


async def _fails_everywhere(run: Run, error: RecollectError, *, at: str, stream: bool) -> list[str]:
    """Let the places that are called `at` fail one after the other; returns what came of each."""
    came: list[str] = []
    whole = [*SEEDED, *run.case.adds]
    for place in count():
        name = run.somebody()
        namespace = user_named(name)
        before = await run.seed(namespace)
        run.gate.arm(place, at, error)
        text, code = await _answered(run, name, stream=stream)
        logged = await _last(run)
        if not run.gate.reached.is_set():
            return came
        assert run.engine.in_flight == 0
        kept = await run.texts(namespace)
        assert kept in ([*SEEDED], whole)
        assert await run.store.real.seq(namespace) == before + (kept == whole != [*SEEDED])
        if code is not None:
            assert (code, logged.error) == (error.code, f"{type(error).__name__}: {error.message}")
            came.append("told")
        else:
            assert text.strip()
            assert logged.error is None
            if logged.memory_error is not None:
                assert logged.memory_error == f"{type(error).__name__}: {error.message}"
                assert kept == [*SEEDED] or "done" in at
            came.append("late" if logged.memory_error else "mended")
        run.gate.arm()
        text, code = await _answered(run, name, stream=stream)
        assert (bool(text.strip()), code) == (True, None)
        assert ((await _last(run)).error, (await _last(run)).memory_error) == (None, None)
        assert await run.texts(namespace) == whole
    return came


@pytest.mark.parametrize(("error", "stream"), ENGINE, ids=["away", "error", "too long"])
async def test_each_model_call_fails_in_turn(run: Run, error: RecollectError, stream: bool) -> None:
    came = await _fails_everywhere(run, error, at="call", stream=stream)
    calls = {"memory, episodic": 1, "reader": 4, "rmm, embedding": 1, "memory-r1": 4, "a module of one's own": 3}.get(run.case.name, 2)
    assert len(came) == calls
    if isinstance(error, ContextTooLong) and run.case.recalls:
        assert "told" not in came  # memories are given up instead
    else:
        assert came[0] == "told"
    assert ("late" in came) == run.case.late


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_breaks_off_is_an_error_whatever_came_before(run: Run, stream: bool) -> None:
    if stream:
        came = await _fails_everywhere(run, EngineUnavailable("the stream broke off"), at="engine", stream=True)
        assert set(came) == {"told"}
    else:
        run.engine.trouble.break_after = 0
        assert await _answered(run, "ada", stream=False) == ("", "engine_unavailable")
        assert (await _last(run)).error == "EngineUnavailable: the stream broke off before its end"


async def test_garbage_from_a_call_that_writes_or_chooses_harms_nothing(run: Run) -> None:
    for garbage in GARBAGE:
        await _garbled_everywhere(run, garbage)


async def _garbled_everywhere(run: Run, garbage: str) -> None:
    for number in count():
        name = run.somebody()
        await run.seed(user_named(name))
        run.engine.calls.clear()
        run.engine.garbled, run.engine.garbage = number, garbage
        text, code = await _answered(run, name, stream=bool(number % 2))
        logged = await _last(run)
        if number >= len(run.engine.calls):
            break
        assert (code, logged.error, logged.memory_error) == (None, None, None)
        garbled = [step for step in logged.steps if step.policy is not None][number]
        assert text.strip() or garbled.role in ("answerer", "reader_answer")
        assert set(SEEDED) <= set(await run.texts(user_named(name)))
        assert not [op for op in garbled.memory_ops if op.applied and op.op in ("update", "delete")]


async def test_an_embedder_that_fails_is_an_error_and_not_an_empty_memory(recalling: Case, tmp_path: Any) -> None:
    for number in count():
        async with running(recalling, tmp_path / str(number)) as run:  # of its own, because vectors are cached
            await run.seed(user_named("ada"))
            run.gate.arm(number, "embedder", EmbedderError("no vector"))
            text, code = await _answered(run, "ada", stream=False)
            logged = await _last(run)
            if not run.gate.reached.is_set():
                assert number > 0
                break
            assert (code == "embedder_error", not text) == (logged.error is not None, logged.error is not None)
            assert "EmbedderError: no vector" in (logged.error, logged.memory_error)
            assert number or (code and not run.engine.calls), "the question itself is embedded first"
            assert await run.texts(user_named("ada")) == [*SEEDED]
            assert (await _answered(run, "ada", stream=False))[1] is None
            await run.served.logged()
            assert await run.texts(user_named("ada")) == [*SEEDED, *recalling.adds]


async def test_a_commit_that_fails_before_or_after_it_was_made(run: Run) -> None:
    for error, at, stream in product(STORE, ("apply", "apply done"), (False, True)):
        came = await _fails_everywhere(run, error, at=at, stream=stream)
        assert came == ([] if not run.case.adds else ["late"] if run.case.late else ["told"]), (error, at, stream)


async def test_a_store_that_fails_while_it_is_read_is_an_error(run: Run) -> None:
    for at in ("search", "list", "get", "fork", "embed"):
        came = await _fails_everywhere(run, StorageFull("the disk cannot be read"), at=at, stream=False)
        assert set(came) <= {"told", "late"}
        assert at != "search" or bool(came) == run.case.recalls
