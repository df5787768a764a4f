"""The vLLM client against a server that misbehaves: every failure is an error of the right kind, no stream ends silently."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from engine_stub import Stub, serving

from recollect.errors import ContextTooLong, EngineError, EngineUnavailable, InvalidRequest, NotFound, RecollectError
from recollect.messages import user
from recollect.policy import Policy
from recollect.trajectory import Usage
from server.engines.base import Sampling, collect
from server.engines.vllm import VllmEngine

BASE = Policy(base="stub")
PROMPT = [10, 11, 12]


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with serving(Stub()) as running:
        yield running


@pytest.fixture
async def client(stub: Stub) -> AsyncIterator[VllmEngine]:
    engine = VllmEngine(stub.url + "/v1/", timeout_s=5)
    yield engine
    await engine.close()


async def complete(engine: VllmEngine, *, stream: bool = False, **sampling: Any):
    return (await collect(engine.complete(PROMPT, policy=BASE, sampling=Sampling(**sampling), stream=stream)))[0]


@pytest.mark.parametrize("piece_bytes", [0, 1, 7])
async def test_a_stream_is_read_however_its_bytes_are_cut(client: VllmEngine, stub: Stub, piece_bytes: int) -> None:
    stub.piece_bytes = piece_bytes
    whole, streamed = await complete(client), await complete(client, stream=True)
    assert streamed == whole
    assert (whole.text, whole.token_ids, whole.prompt_ids, whole.finish_reason) == ("Hello", [7, 8, 9, 2], PROMPT, "stop")
    assert whole.logprobs == [-0.5] * 4
    assert whole.usage == Usage(prompt_tokens=3, completion_tokens=4)


async def test_tokens_without_text_are_kept_and_usage_comes_with_the_last_chunk(client: VllmEngine) -> None:
    chunks = [chunk async for chunk in client.complete(PROMPT, policy=BASE, sampling=Sampling(), stream=True)]
    assert [(chunk.text, chunk.token_ids) for chunk in chunks] == [("Hel", (7,)), ("", (8,)), ("lo", (9, 2))]
    assert [chunk.usage is None for chunk in chunks] == [True, True, False]
    assert [chunk.prompt_ids for chunk in chunks] == [tuple(PROMPT), None, None]


async def test_only_known_fields_are_sent(client: VllmEngine, stub: Stub) -> None:
    sampling = Sampling(
        temperature=0.5, top_p=0.9, max_tokens=4, seed=1, stop=("x",), presence_penalty=0.1, frequency_penalty=0.2, ignore_eos=True
    )
    await collect(client.complete(PROMPT, policy=BASE, sampling=sampling, salt="tenant"))
    [(path, body)] = stub.bodies
    assert path == "/v1/completions"
    assert body == {
        "model": "stub",
        "prompt": PROMPT,
        "logprobs": 0,
        "return_token_ids": True,
        "max_tokens": 4,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 1,
        "stop": ["x"],
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "ignore_eos": True,
        "cache_salt": "tenant",
    }


@pytest.mark.parametrize("endpoint", ["chat", "completion"])
async def test_a_schema_goes_out_in_the_field_that_openai_has_for_it(client: VllmEngine, stub: Stub, endpoint: str) -> None:
    sampling = Sampling(max_tokens=4, schema='{"type": "object"}')
    calls = {
        "chat": client.chat([user("x")], policy=BASE, sampling=sampling),
        "completion": client.complete(PROMPT, policy=BASE, sampling=sampling),
    }
    await collect(calls[endpoint])
    assert client.guided
    assert stub.bodies[-1][1]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }


async def test_only_what_goes_behind_others_says_so(client: VllmEngine, stub: Stub) -> None:
    behind = VllmEngine(stub.url, behind=True)
    await complete(client)
    await complete(behind)
    await behind.close()
    assert [body.get("priority") for path, body in stub.bodies if path == "/v1/completions"] == [None, 1]


async def test_without_max_tokens_a_completion_may_fill_the_window(client: VllmEngine, stub: Stub) -> None:
    await complete(client)
    assert stub.bodies[0][1]["max_tokens"] == 64 - len(PROMPT)


@pytest.mark.parametrize(
    ("status", "body", "kind", "param"),
    [
        (400, {"error": {"message": "top_p must be in (0, 1], got 7.0.", "param": "top_p"}}, InvalidRequest, "top_p"),
        (400, {"error": {"message": "n must be 1 when using greedy sampling, got 2.", "param": None}}, InvalidRequest, "n"),
        (400, {"error": {"message": "1 validation error: {'msg': 'too big'}", "param": "body.seed"}}, InvalidRequest, "seed"),
        (422, "unreadable", InvalidRequest, None),
        (404, {"error": {"message": "The model `x` does not exist."}}, NotFound, "model"),
        (401, {"error": "Unauthorized"}, EngineError, None),
        (429, {"error": {"message": "slow down"}}, EngineUnavailable, None),
        (500, {"error": {"message": "EngineCore encountered an issue."}}, EngineUnavailable, None),
        (500, {"error": {"message": "out of cheese"}}, EngineError, None),
        (502, "<html>Bad Gateway</html>", EngineError, None),
        (503, "", EngineUnavailable, None),
        (200, "not json", EngineError, None),
        (200, {"choices": []}, EngineError, None),
        (200, {"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}, EngineError, None),
        (
            200,
            {"choices": [{"index": 0, "text": "x", "token_ids": [1, 2], "logprobs": {"token_logprobs": [-1]}, "finish_reason": "stop"}]},
            EngineError,
            None,
        ),
        (
            200,
            {"choices": [{"index": 0, "text": "", "token_ids": [], "logprobs": None, "finish_reason": "abort"}]},
            EngineUnavailable,
            None,
        ),
    ],
)
async def test_each_failure_is_an_error_of_its_kind(
    client: VllmEngine, stub: Stub, status: int, body: Any, kind: type[RecollectError], param: str | None
) -> None:
    stub.reply = (status, body)
    with pytest.raises(kind) as raised:
        await complete(client, max_tokens=4)
    assert type(raised.value) is kind
    assert raised.value.param == param


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        ("This model's maximum context length is 64 tokens. However, your prompt contains at least 65 input tokens, which exceeds", 105),
        ("This model's maximum context length is 64 tokens. However, your prompt contains 9000 characters (more than 832", 105),
        ("Input length (99) exceeds model's maximum context length (64).", 105),
    ],
)
async def test_a_chat_that_is_too_long_is_refused_with_its_true_length(client: VllmEngine, stub: Stub, message: str, tokens: int) -> None:
    stub.vocabulary['[{"role": "user", "content": "long"}]'] = [1] * tokens
    stub.replies["/v1/chat/completions"] = (400, {"error": {"message": message, "param": "input_tokens"}})
    with pytest.raises(ContextTooLong) as raised:
        await collect(client.chat([user("long")], policy=BASE, sampling=Sampling()))
    assert (raised.value.prompt_tokens, raised.value.window_tokens, raised.value.param) == (tokens, 64, "messages")


async def test_a_prompt_that_leaves_no_room_is_refused_before_it_is_sent(client: VllmEngine, stub: Stub) -> None:
    with pytest.raises(ContextTooLong) as raised:
        await collect(client.complete([1] * 64, policy=BASE, sampling=Sampling(max_tokens=5)))
    assert (raised.value.prompt_tokens, raised.value.window_tokens) == (64, 64)
    assert stub.bodies == []


FIRST = b'data: {"choices": [{"index": 0, "text": "a", "token_ids": [1], "logprobs": {"token_logprobs": [-1]}, "finish_reason": null}]}\n\n'


@pytest.mark.parametrize(
    ("stream", "cut", "kind"),
    [
        (FIRST, True, EngineUnavailable),
        (FIRST, False, EngineUnavailable),
        (FIRST + b"data: [DONE]\n\n", False, EngineError),
        (b"data: [DONE]\n\n", False, EngineError),
        (
            FIRST + b'data: {"error": {"message": "EngineCore encountered an issue", "code": 500}}\n\ndata: [DONE]\n\n',
            False,
            EngineUnavailable,
        ),
        (FIRST + b'data: {"error": {"message": "odd", "code": 500}}\n\n', False, EngineError),
        (FIRST + b"data: {broken\n\n", False, EngineError),
        (FIRST.replace(b'"token_ids": [1], ', b""), False, EngineError),
        (FIRST.replace(b"null", b'"abort"') + b"data: [DONE]\n\n", False, EngineUnavailable),
    ],
)
async def test_a_stream_that_breaks_off_is_an_error(
    client: VllmEngine, stub: Stub, stream: bytes, cut: bool, kind: type[EngineError]
) -> None:
    stub.stream, stub.cut = stream, cut
    with pytest.raises(kind) as raised:
        await complete(client, stream=True, max_tokens=4)
    assert type(raised.value) is kind


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_does_not_answer_in_time_is_unavailable(stub: Stub, stream: bool) -> None:
    engine = VllmEngine(stub.url, timeout_s=0.2)
    stub.hang.clear()
    with pytest.raises(EngineUnavailable, match="in time"):
        await complete(engine, stream=stream, max_tokens=4)
    stub.hang.set()
    await engine.close()


async def test_an_engine_that_is_not_there_is_unavailable() -> None:
    engine = VllmEngine("http://127.0.0.1:9")
    with pytest.raises(EngineUnavailable, match="not been reached"):
        _ = engine.base
    with pytest.raises(EngineUnavailable):
        await complete(engine)
    assert not (await engine.health()).ready
    await engine.close()


async def test_a_server_that_comes_up_later_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.engines.vllm.FIRST_SEARCH_S", 0.01)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    engine = VllmEngine(f"http://127.0.0.1:{port}")
    await engine.start()
    await engine.start()
    async with serving(Stub(), port), asyncio.timeout(10):
        while engine.window is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert (engine.base, engine.window) == ("stub", 64)
    await engine.close()
    never = VllmEngine(f"http://127.0.0.1:{port}")
    await never.start()
    await never.close()


async def test_a_server_that_serves_another_model_is_not_healthy(stub: Stub) -> None:
    engine = VllmEngine(stub.url, base="another")
    health = await engine.health()
    assert not health.ready
    assert "serves stub, not 'another'" in health.detail
    await engine.close()


async def test_short_texts_are_tokenized_once(client: VllmEngine, stub: Stub) -> None:
    assert await client.encode("hello") == await client.encode("hello") == list(b"hello")
    (await client.encode("hello")).append(0)
    assert await client.encode("hello") == list(b"hello")
    await client.encode("x" * 10_000)
    await client.encode("x" * 10_000)
    assert len(stub.bodies) == 3


async def test_a_template_that_decodes_with_loss_is_taken_from_the_engine(client: VllmEngine, stub: Stub) -> None:
    wire = '[{"role": "user", "content": "hi"}]'
    assert await client.render([user("hi")]) == wire
    stub.vocabulary['[{"role": "user", "content": "ho"}]'] = [104, 111]
    stub.vocabulary["ho"] = [1]
    stub.vocabulary["from the template"] = [104, 111]
    await client.health()
    assert await client.render([user("ho")]) == "from the template"
    stub.vocabulary["from the template"] = [2]
    stub.vocabulary['[{"role": "user", "content": "he"}]'] = [104, 101]
    stub.vocabulary["he"] = [1]
    engine = VllmEngine(stub.url, base="stub")
    with pytest.raises(EngineError, match="chat template"):
        await engine.render([user("he")])
    await engine.close()


async def test_waiting_answers_are_seen_as_such(client: VllmEngine) -> None:
    assert client.stalled_s == 0
    stream = client.complete(PROMPT, policy=BASE, sampling=Sampling(), stream=True)
    async for _ in stream:
        assert 0 <= client.stalled_s < 5
    assert client.stalled_s == 0
    assert await client.pulse()
