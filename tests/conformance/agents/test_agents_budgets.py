"""What bounds every agent: the tokens of an answer, the characters of memories, the tokens of sections, the window."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from recollect.trajectory import Step
from server.engines import toy_tokens
from tests.conformance.agents.cases import CASES, TURN, Case, Run, running, user_named

ANSWERS = ("answerer", "reader_answer")
LONG = tuple(f"User keeps animal number {number}, a heron. {f'It is called {number} and likes the pond. ' * 12}" for number in range(1, 9))


async def _steps(run: Run, name: str = "ada", **more: Any) -> list[Step]:
    await run.served.ask("", **{"messages": run.case.wire, "model": run.case.model, "user": name, **more})
    return (await run.served.logged())[-1].trajectory.steps


def _answer(steps: list[Step]) -> Step:
    return next(step for step in steps if step.role in ANSWERS and step.error is None)


def _shown(step: Step) -> list[str]:
    """The memories in an answering prompt, without their numbers."""
    block = step.messages[-1].content.partition("<memory>\n")[2].partition("\n</memory>")[0]
    return [re.sub(r"^\[\d+\] ", "", line) for line in block.splitlines()]


async def test_the_answer_has_at_most_the_tokens_that_the_request_allows(run: Run) -> None:
    await run.seed(user_named("ada"))
    steps = await _steps(run, max_tokens=5)
    answer = _answer(steps)
    assert (answer.sampling["max_tokens"], answer.usage.completion_tokens, answer.finish_reason) == (5, 5, "length")
    # A limit of the answer is no other call's.
    others = [step for step in steps if step.policy and step is not answer]
    assert all(step.sampling["max_tokens"] > 5 and step.finish_reason == "stop" for step in others), (
        "a limit of an answer is no other call's"
    )


async def test_the_memories_that_are_shown_are_together_at_most_memory_chars_long(recalling: Case, tmp_path: Path) -> None:
    async with running(recalling, tmp_path, memory_chars=700) as run:
        await run.seed(user_named("ada"), LONG)
        steps = await _steps(run)
        shown = _shown(_answer(steps))
        assert shown
        assert 0 < sum(map(len, shown)) <= 700
        for step in steps:
            if step.role in ("updater", "manager"):
                related = step.messages[-1].content.partition("Memories:\n")[2].partition("\nTurn:")[0]
                assert 0 < sum(len(line.partition(" ")[2]) for line in related.splitlines()) <= 700


async def test_a_conversation_beyond_the_window_gives_up_memories_and_then_is_refused(recalling: Case, tmp_path: Path) -> None:
    async with running(recalling, tmp_path, window=1200) as run:
        await run.seed(user_named("ada"), LONG)
        steps = await _steps(run)
        answer = _answer(steps)
        assert [step.error for step in steps if step.role in ("answerer", "reranker") and step.error], "they did not fit at first"
        assert answer.messages[-1].content.endswith(TURN)
        assert len(answer.retrieved) < 5
        whole = f"{TURN} {'It rains today. ' * 60}".strip()
        steps = await _steps(run, "ada", messages=[{"role": "user", "content": whole}])
        assert _answer(steps).messages[-1].content.endswith(whole)
        refused = await run.served.http.post(
            "/v1/chat/completions",
            json={"model": recalling.model, "messages": [{"role": "user", "content": whole * 2}], "user": "ada"},
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
        logged = (await run.served.logged())[-1].trajectory
        assert (logged.error or "").startswith("ContextTooLong")
        assert whole * 2 not in await run.texts(user_named("ada"))


@pytest.fixture
def reader() -> Case:
    return next(case for case in CASES if case.model == "reader")


async def test_sections_and_memories_of_a_reading_have_the_tokens_that_are_configured(reader: Case, tmp_path: Path) -> None:
    async with running(reader, tmp_path, section_tokens=50, memory_tokens=12) as run:
        steps = await _steps(run, max_tokens=9)
        *sections, answer = steps
        texts = [toy_tokens.decode(step.prompt_ids or ()) for step in sections]
        read = [text.rpartition("Section: ")[2].partition("\nNew memory:")[0] for text in texts]
        assert "".join(read).replace(" ", "") == reader.messages[0].content.replace(" ", "")
        assert {len(section) for section in read[:-1]} <= {49, 50}, "a blank that a section begins with is the prompt's own"
        assert {step.sampling["max_tokens"] for step in sections} == {12}
        assert all(step.usage.completion_tokens <= 12 for step in sections)
        assert answer.sampling["max_tokens"] == 9


async def test_a_question_beyond_the_window_of_a_reader_is_refused(reader: Case, tmp_path: Path) -> None:
    async with running(reader, tmp_path, window=400, section_tokens=50, memory_tokens=12) as run:
        messages = [{"role": "user", "content": "The pond is deep."}, {"role": "user", "content": "Why? " * 100}]
        refused = await run.served.http.post("/v1/chat/completions", json={"model": "reader", "messages": messages})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
