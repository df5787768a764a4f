"""Streams of every agent: the pieces are the plain answer, the end tells its reason and the usage of all calls."""

from __future__ import annotations

from typing import Any

from recollect.trajectory import Usage
from server.agents.base import AgentContext, AgentRequest
from server.agents.recorder import Recorder
from server.engines.base import Sampling
from tests.conformance.agents.cases import ANSWER, Run, as_store, built, user_named


async def _streamed(run: Run, name: str, **more: Any) -> list[Any]:
    stream = await run.served.openai.chat.completions.create(
        model=run.case.model,
        messages=run.case.wire,  # type: ignore[arg-type]
        user=name,
        stream=True,
        stream_options={"include_usage": True},
        **more,
    )
    return [chunk async for chunk in stream]


async def test_the_pieces_joined_are_the_plain_answer_and_the_end_tells_why_and_what_was_used(run: Run) -> None:
    for name in ("ada", "ben"):
        await run.seed(user_named(name))
    plain = await run.served.ask("", messages=run.case.wire, model=run.case.model, user="ada", seed=7, temperature=0.5)
    chunks = await _streamed(run, "ben", seed=7, temperature=0.5)
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert len(pieces) > 1
    assert "".join(pieces) == plain["choices"][0]["message"]["content"] == f"{ANSWER} (7)"
    *_, end, last = chunks
    assert [choice.finish_reason for choice in end.choices] == ["stop"] == [plain["choices"][0]["finish_reason"]]
    assert all(choice.finish_reason is None for chunk in chunks[:-2] for choice in chunk.choices)
    first, second = await run.served.logged()
    for logged, told in ((first, plain["usage"]), (second, last.usage.model_dump())):
        calls = _of_the_answer(logged.trajectory.steps)
        assert len(calls) == 1 or run.case.model in ("reader", "rmm")
        used = sum((step.usage for step in calls), Usage())
        assert (told["prompt_tokens"], told["completion_tokens"]) == (used.prompt_tokens, used.completion_tokens)
        assert all(step.usage.prompt_tokens == len(step.prompt_ids or ()) > 0 for step in calls)
        assert all(step.usage.completion_tokens == len(step.completion_ids or ()) > 0 for step in calls)
    assert [step.text for step in _of_the_answer(first.trajectory.steps)] == [s.text for s in _of_the_answer(second.trajectory.steps)]


async def test_the_agents_own_last_event_counts_all_calls_of_the_answer(run: Run) -> None:
    await run.seed(user_named("ada"))
    agent = built(run.case, run.served.home)
    for stream in (False, True):
        ctx = AgentContext(
            engine=run.engine,
            store=as_store(run.store),
            namespace=user_named("ada"),
            policies=run.served.service.adapters.pin(agent.aliases, "local").policies,
            recorder=Recorder(),
        )
        events = [event async for event in agent.run(AgentRequest(run.case.messages, Sampling(), stream=stream), ctx)]
        assert (events[-1].finish_reason, events[-1].usage) == ("stop", ctx.recorder.usage)
        assert len([event for event in events if event.usage is not None]) == 1


async def test_several_choices_come_each_with_its_own_end(run: Run) -> None:
    await run.seed(user_named("ada"))
    chunks = await _streamed(run, "ada", n=2, temperature=1.0)
    for index in (0, 1):
        own = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert "".join(choice.delta.content or "" for choice in own) == f"{ANSWER} (None)"
        assert [choice.finish_reason for choice in own if choice.finish_reason] == ["stop"]


def _of_the_answer(steps: list[Any]) -> list[Any]:
    """The model calls up to the answer: what is remembered afterwards is no part of it."""
    answered = max(place for place, step in enumerate(steps) if step.role in ("answerer", "reader_answer"))
    return [step for step in steps[: answered + 1] if step.policy is not None]
