"""Any OpenAI-compatible server as an engine: text, no tokens, no adapters."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from engine_stub import Stub, serving

from recollect.errors import AdapterRefused, EngineError, EngineUnavailable, InvalidRequest, NotFound
from recollect.messages import user
from recollect.policy import Policy
from recollect.trajectory import Usage
from server.engines.base import Sampling, collect
from server.engines.upstream import OpenAIUpstream

MODEL = Policy(base="m")


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with serving(Stub()) as running:
        yield running


@pytest.fixture
async def upstream(stub: Stub) -> AsyncIterator[OpenAIUpstream]:
    engine = OpenAIUpstream(stub.url + "/v1", "m", "secret", timeout_s=5)
    yield engine
    await engine.close()


def choice(**values: Any) -> dict[str, Any]:
    return {"index": 0, "finish_reason": None, **values}


async def test_it_answers_with_text_alone(upstream: OpenAIUpstream, stub: Stub) -> None:
    stub.reply = (
        200,
        {"choices": [choice(message={"content": "hi"}, finish_reason="stop")], "usage": {"prompt_tokens": 2, "completion_tokens": 1}},
    )
    sampling = Sampling(temperature=0.3, ignore_eos=True)
    [answer] = await collect(upstream.chat([user("x")], policy=MODEL, sampling=sampling, salt="tenant"))
    assert (answer.text, answer.token_ids, answer.finish_reason) == ("hi", None, "stop")
    assert answer.usage == Usage(prompt_tokens=2, completion_tokens=1)
    assert stub.bodies == [
        ("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 0.3}),
    ]


async def test_it_streams(upstream: OpenAIUpstream, stub: Stub) -> None:
    stub.adapters["m"] = ""
    deltas = [
        choice(delta={"role": "assistant"}),
        choice(delta={"content": "h"}),
        choice(delta={"content": "i"}),
        choice(delta={}, finish_reason="stop"),
    ]
    lines = [f"data: {json.dumps({'choices': [delta]})}\r\n\r\n" for delta in deltas]
    stub.stream = (": comment\r\n\r\n" + "".join(lines) + "data: [DONE]\r\n\r\n").encode()
    chunks = [chunk async for chunk in upstream.chat([user("x")], policy=MODEL, sampling=Sampling(), stream=True)]
    assert [chunk.text for chunk in chunks] == ["h", "i", ""]
    assert chunks[-1].finish_reason == "stop"
    stub.stream = "".join(lines[:2]).encode()
    with pytest.raises(EngineUnavailable, match="broke off"):
        await collect(upstream.chat([user("x")], policy=MODEL, sampling=Sampling(), stream=True))
    stub.stream = ("".join(lines[:2]) + "data: [DONE]\n\n").encode()
    with pytest.raises(EngineError, match="finished"):
        await collect(upstream.chat([user("x")], policy=MODEL, sampling=Sampling(), stream=True))


async def test_tokens_and_adapters_are_refused_with_the_way_out(upstream: OpenAIUpstream) -> None:
    adapted = Policy(base="m", adapter="memory", version=1)
    with pytest.raises(AdapterRefused, match=r"engine\.kind"):
        await upstream.load_adapter(adapted, "/v1")
    await upstream.unload_adapter(adapted)
    with pytest.raises(NotFound):
        await collect(upstream.chat([user("x")], policy=adapted, sampling=Sampling()))
    for refused in (upstream.encode("x"), upstream.decode([1]), upstream.render([user("x")])):
        with pytest.raises(InvalidRequest, match="no token ids"):
            await refused
    with pytest.raises(InvalidRequest, match="no token ids"):
        await collect(upstream.complete([1], policy=MODEL, sampling=Sampling()))


async def test_its_health_is_the_servers(upstream: OpenAIUpstream) -> None:
    await upstream.start()
    assert (await upstream.health()).ready
    missing = OpenAIUpstream("http://127.0.0.1:9", "m")
    assert not (await missing.health()).ready
    await missing.close()
