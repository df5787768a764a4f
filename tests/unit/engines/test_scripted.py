"""The scripted engine behaves as a real one does, so that what passes with it has been tried."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.errors import ContextTooLong, EngineUnavailable, NotFound
from recollect.messages import Message, user
from recollect.policy import Policy
from server.engines import toy_tokens
from server.engines.base import Engine, Sampling, collect
from server.engines.scripted import ScriptedCall, ScriptedEngine

BASE = Policy(base="scripted")
ENGINE: Engine = ScriptedEngine()


@given(st.lists(st.sampled_from([toy_tokens.START, toy_tokens.END, "a", "Zoë", "🙂", "\n"])))
def test_toy_tokens_are_reversible(parts: list[str]) -> None:
    text = "".join(parts)
    assert toy_tokens.decode(toy_tokens.encode(text)) == text


@pytest.mark.parametrize("stream", [False, True])
async def test_it_answers_with_tokens_usage_and_prompt(stream: bool) -> None:
    engine = ScriptedEngine(answer=lambda call: "Zoë 🙂 lives here", piece_tokens=3)
    talk = [Message(role="system", content="s"), user("Where?")]
    chunks = [chunk async for chunk in engine.chat(talk, policy=BASE, sampling=Sampling(), stream=stream, salt="t")]
    assert (len(chunks) > 1) is stream
    assert "".join(chunk.text for chunk in chunks) == "Zoë 🙂 lives here"
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    ids = [i for chunk in chunks for i in chunk.token_ids or ()]
    assert ids == [*toy_tokens.encode("Zoë 🙂 lives here"), toy_tokens.END_ID]
    assert all(len(chunk.token_ids or ()) == len(chunk.logprobs or ()) for chunk in chunks)
    assert list(chunks[0].prompt_ids or ()) == await engine.encode(await engine.render(talk))
    assert engine.calls[0].salt == "t"
    assert engine.calls[0].messages == tuple(talk)


async def test_a_completion_of_ids_sees_their_text() -> None:
    engine = ScriptedEngine()
    [completion] = await collect(engine.complete(toy_tokens.encode("one\ntwo"), policy=BASE, sampling=Sampling()))
    assert completion.text == "two"


async def test_limits_and_stops_end_an_answer() -> None:
    engine = ScriptedEngine(answer=lambda call: "one two three")
    [cut] = await collect(engine.chat([user("x")], policy=BASE, sampling=Sampling(max_tokens=4)))
    assert (cut.text, cut.finish_reason, len(cut.token_ids or ())) == ("one ", "length", 4)
    [stopped] = await collect(engine.chat([user("x")], policy=BASE, sampling=Sampling(stop=("three", "two"))))
    assert (stopped.text, stopped.finish_reason) == ("one ", "stop")
    assert toy_tokens.decode(stopped.token_ids or ()) == "one two"


async def test_choices_are_told_apart() -> None:
    def numbered(call: ScriptedCall) -> str:
        return f"choice {call.choice}"

    engine = ScriptedEngine(answer=numbered)
    found = await collect(engine.chat([user("x")], policy=BASE, sampling=Sampling(n=2), stream=True))
    assert [completion.text for completion in found] == ["choice 0", "choice 1"]


async def test_adapters_answer_only_while_they_are_loaded() -> None:
    engine, policy = ScriptedEngine(), Policy(base="scripted", adapter="memory", version=1)
    with pytest.raises(NotFound):
        await collect(engine.chat([user("x")], policy=policy, sampling=Sampling()))
    await engine.load_adapter(policy, "/v1")
    await engine.load_adapter(policy, "/v1")
    assert (await collect(engine.chat([user("x")], policy=policy, sampling=Sampling())))[0].text == "x"
    await engine.unload_adapter(policy)
    await engine.unload_adapter(policy)
    assert engine.adapters == {}


async def test_trouble_comes_as_told() -> None:
    engine = ScriptedEngine(answer=lambda call: "a long answer")
    engine.trouble.fail, engine.trouble.failures = EngineUnavailable("down"), 1
    with pytest.raises(EngineUnavailable, match="down"):
        await collect(engine.chat([user("x")], policy=BASE, sampling=Sampling()))
    engine.trouble.break_after = 2
    seen: list[str] = []

    async def read() -> None:
        async for chunk in engine.chat([user("x")], policy=BASE, sampling=Sampling(), stream=True):
            seen.append(chunk.text)

    with pytest.raises(EngineUnavailable, match="broke off"):
        await read()
    assert len(seen) == 2
    assert engine.in_flight == 0
    with pytest.raises(ContextTooLong):
        await collect(engine.complete([5] * 9000, policy=BASE, sampling=Sampling()))


async def test_an_inexact_engine_shows_no_tokens() -> None:
    [completion] = await collect(ScriptedEngine(exact=False).chat([user("x")], policy=BASE, sampling=Sampling()))
    assert (completion.text, completion.token_ids, completion.logprobs, completion.prompt_ids) == ("x", None, None, None)
