"""Bad input: each gives one clear error, with the right status, that names the field and the fix."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from recollect.keys import KeyRing
from tests.api.conftest import Served

USER = {"role": "user", "content": "hello"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}

CHAT: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "unknown model": ({"model": "gpt-5"}, 404, "model", "memory, memory-r1, reader, rmm"),
    "no model": ({"model": None}, 400, "model", "string"),
    "no messages": ({"messages": []}, 400, "messages", "at least 1 item"),
    "messages of a wrong type": ({"messages": "hello"}, 400, "messages", "list"),
    "a message without content": ({"messages": [{"role": "user"}]}, 400, "messages[0].content", "required"),
    "a message without a role": ({"messages": [{"content": "x"}]}, 400, "messages[0].role", "required"),
    "an unknown role": ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages[0].role", "'user'"),
    "content of a wrong type": ({"messages": [{"role": "user", "content": 7}]}, 400, "messages[0].content", "valid string or list"),
    "a part with a field of another API": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}]},
        400,
        "messages[0].content[0].cache_control",
        "unknown field 'messages[0].content[0].cache_control'; leave it out",
    ),
    "too many stops": ({"stop": ["x"] * 17}, 400, "stop", "at most 16 items"),
    "an empty stop": ({"stop": ""}, 400, "stop", "at least 1 character"),
    "an empty stop in a list": ({"stop": ["x", ""]}, 400, "stop[1]", "at least 1 character"),
    "a stop of a wrong type": ({"stop": ["x", 7]}, 400, "stop[1]", "valid string"),
    "an image": (
        {"messages": [USER, {"role": "user", "content": [{"type": "text", "text": "x"}, IMAGE]}]},
        400,
        "messages[1].content[1].image_url.url",
        "no data URL",
    ),
    "an image for a model that sees none": (
        {"messages": [{"role": "user", "content": [PNG]}]},
        400,
        "messages",
        "engine.vision=true",
    ),
    "no parts": ({"messages": [{"role": "user", "content": []}]}, 400, "messages[0].content", "no parts"),
    "a part without text": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        400,
        "messages[0].content[0].text",
        "required",
    ),
    "half a tool call": (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]},
        400,
        "messages[0].tool_calls[0].function",
        "required",
    ),
    "a user's tool call": ({"messages": [{**USER, "tool_calls": [CALL]}]}, 400, "messages[0].tool_calls", "assistant"),
    "a result of no call": ({"messages": [USER, {"role": "tool", "content": "x"}]}, 400, "messages[1].tool_call_id", "required"),
    "a number as text": ({"temperature": "0.5"}, 400, "temperature", "number"),
    "too hot": ({"temperature": 3}, 400, "temperature", "less than or equal to 2"),
    "top_p 0": ({"top_p": 0}, 400, "top_p", "greater than 0"),
    "no tokens": ({"max_tokens": 0}, 400, "max_tokens", "greater than or equal to 1"),
    "n 0": ({"n": 0}, 400, "n", "greater than or equal to 1"),
    "n of greedy answers": ({"n": 2, "temperature": 0}, 400, "n", "raise temperature"),
    "stream of a wrong type": ({"stream": "yes"}, 400, "stream", "boolean"),
    "stream options without a stream": ({"stream_options": {"include_usage": True}}, 400, "stream_options", "stream=true"),
    "a tool of another kind": ({"tools": [{"type": "web_search"}]}, 400, "tools[0].type", "'function'"),
    "a tool without a name": ({"tools": [{"type": "function", "function": {}}]}, 400, "tools[0].function.name", "required"),
    "a tool twice": ({"tools": [TOOL, TOOL]}, 400, "tools", "twice"),
    "a choice of no tool": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        400,
        "tool_choice",
        "offered are f",
    ),
    "a choice without tools": ({"tool_choice": "required"}, 400, "tool_choice", "with tools"),
    "tools for an agent that has none": ({"model": "reader", "tools": [TOOL]}, 400, "tools", "ask 'memory'"),
    "a response format of another kind": ({"response_format": {"type": "yaml"}}, 400, "response_format.type", "'json_schema'"),
    "a response format without its schema": ({"response_format": {"type": "json_schema"}}, 400, "response_format.json_schema", "required"),
    "alternatives without logprobs": ({"top_logprobs": 2}, 400, "top_logprobs", "logprobs=true"),
    "too many alternatives": ({"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs", "less than or equal to 20"),
    "a bias of a word": ({"logit_bias": {"cat": 1}}, 400, "logit_bias.cat", "pattern"),
    "prompt_logprobs": ({"prompt_logprobs": 1}, 400, "prompt_logprobs", "unknown field"),
    "api_base": ({"api_base": "http://evil"}, 400, "api_base", "unknown field"),
    "extra_body": ({"extra_body": {}}, 400, "extra_body", "unknown field"),
    "lora_path": ({"lora_path": "/etc"}, 400, "lora_path", "unknown field"),
    "a misspelt field": ({"temprature": 1}, 400, "temprature", "did you mean 'temperature'"),
    "metadata of a wrong type": ({"metadata": {"a": 1}}, 400, "metadata.a", "string"),
    "a broken scope": ({"metadata": {"memory_scope": "User Space/1"}}, 400, "metadata.memory_scope", "user/42"),
    "a session with spaces": ({"metadata": {"session_id": "a b"}}, 400, "metadata.session_id", "printable"),
}


def error_of(answer: Any) -> dict[str, Any]:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    return body["error"]


@pytest.mark.parametrize("name", CHAT)
async def test_a_bad_chat_request_names_its_field(served: Served, name: str) -> None:
    fields, status, param, says = CHAT[name]
    body = {"model": "memory", "messages": [USER], **fields}
    answer = await served.http.post("/v1/chat/completions", json=body)
    error = error_of(answer)
    assert (answer.status_code, error["param"]) == (status, param)
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"
    assert served.engine.calls == []


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "says"),
    [
        ("POST", "/v1/chat/completions", b'{"model": ', 400, "not JSON"),
        ("POST", "/v1/chat/completions", b"[]", 400, "JSON object"),
        ("POST", "/v1/chat/completions", b"", 400, "JSON"),
        ("POST", "/v1/chat/completions", b'{"model": "memory"}', 400, "messages is required"),
        (
            "POST",
            "/v1/chat/completions",
            rb'{"model": "memory", "messages": ["\ud800"]}',
            400,
            "messages[0] is no valid Unicode: it holds half of a surrogate pair",
        ),
        ("POST", "/v1/memories", rb'{"text": "\udfff"}', 400, "half of a surrogate pair"),
        ("POST", "/v1/memories", rb'{"text": "x", "metadata": {"\ud800": 1}}', 400, "a name in metadata is no valid Unicode"),
        ("POST", "/v1/memories", b'{"text": "\xff"}', 400, "not UTF-8 (at byte 10); send JSON in UTF-8"),
        ("POST", "/v1/memories", gzip.compress(b'{"text": "x"}'), 400, "not UTF-8 (at byte 1); send JSON in UTF-8, not compressed"),
        ("POST", "/v1/memories", b'{"text": 1%s}' % (b"0" * 5000), 400, "a number of more than 4300 digits; send a smaller one"),
        ("GET", "/v1/chat/completions", b"", 405, "GET is not allowed"),
        ("GET", "/v1/nothing", b"", 404, "no route /v1/nothing"),
        ("GET", "/nothing", b"", 404, "no route /nothing"),
        ("GET", "/v1/models/gpt-5", b"", 404, "gpt-5"),
        ("POST", "/v1/feedback", b'{"id": "chatcmpl-unknown", "label": "up"}', 404, "chatcmpl-unknown"),
        ("POST", "/v1/feedback", b'{"id": "x"}', 400, "says nothing"),
        ("POST", "/v1/feedback", b'{"id": "x", "correction": " \\n"}', 400, "correction is blank; give the right answer"),
        ("POST", "/v1/feedback", b'{"id": "x", "score": 2}', 400, "score"),
        ("POST", "/v1/feedback", b'{"id": "x", "label": "meh"}', 400, "'up' or 'down'"),
        ("POST", "/v1/feedback", b'{"id": "x", "labell": "up"}', 400, "did you mean 'label'"),
        ("POST", "/v1/memories", b'{"text": "  "}', 400, "text is empty"),
        ("POST", "/v1/memories", b'{"text": "x", "id": "../../etc"}', 400, "a memory's id"),
        ("POST", "/v1/memories", b'{"text": "x", "kind": "magic"}', 400, "'semantic'"),
        ("POST", "/v1/memories", b'{"text": "x", "namespace": "a/b/c:"}', 400, "user/42"),
        ("POST", "/v1/memories", b'{"text": "x", "metadata": {"a": [1]}}', 400, "metadata.a"),
        (
            "POST",
            "/v1/memories",
            b'{"text": "x", "metadata": {"a": null}}',
            400,
            "metadata.a: Input should be a valid string, integer, number",
        ),
        ("POST", "/v1/memories", b'{"text": "x", "metadata": {"a": NaN}}', 400, "metadata.a: Input should be a finite number"),
        (
            "POST",
            "/v1/memories",
            b'{"text": "x", "metadata": {"a": "%s"}}' % (b"y" * 4097),
            400,
            "metadata.a: String should have at most 4096",
        ),
        ("POST", "/v1/memories?namespace=ada", b'{"text": "x"}', 400, "'namespace'; there are none here, put it into the body"),
        ("POST", "/v1/memories/search", b'{"query": ""}', 400, "query is empty"),
        ("POST", "/v1/memories/search", b'{"query": "x", "limit": 0}', 400, "limit"),
        ("POST", "/v1/memories/search", b'{"query": "x", "mode": "magic"}', 400, "'hybrid'"),
        ("GET", "/v1/memories?limit=many", b"", 400, "limit"),
        ("GET", "/v1/memories?limt=3", b"", 400, "unknown query parameter 'limt'; known are namespace, kind, limit, offset"),
        ("POST", "/v1/memories/search?limit=3", b'{"query": "x"}', 400, "unknown query parameter 'limit'"),
        ("GET", "/v1/memories/m1?namespce=ada", b"", 400, "unknown query parameter 'namespce'; known are namespace"),
        ("GET", "/v1/memories?kind=magic", b"", 400, "kind"),
        ("GET", "/v1/memories/no%20id", b"", 400, "a memory's id"),
        ("GET", "/v1/memories/mem_1", b"", 404, "no memory 'mem_1' in namespace 'user/default'"),
        ("DELETE", "/v1/memories/mem_1", b"", 404, "no memory 'mem_1'"),
        ("POST", "/v1/admin/adapters/promote", b'{"policy": "memory", "version": 7}', 404, "no version 7"),
        ("POST", "/v1/admin/adapters/promote", b'{"policy": "../x", "version": 7}', 400, "is no policy"),
        ("POST", "/v1/admin/adapters/rollback", b'{"policy": "memory"}', 409, "base model already"),
    ],
)
async def test_a_bad_request_names_what_is_wrong(served: Served, method: str, path: str, content: bytes, status: int, says: str) -> None:
    answer = await served.http.request(method, path, content=content, headers={"content-type": "application/json"})
    error = error_of(answer)
    assert answer.status_code == status, error
    assert says in error["message"]


@pytest.mark.parametrize("depth", [100, 500, 700, 900, 5000])
async def test_a_body_that_is_nested_too_deep_is_refused_with_the_limit(served: Served, depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    for path, field in (("/v1/chat/completions", b"messages"), ("/v1/memories", b"text"), ("/v1/feedback", b"id")):
        async with asyncio.timeout(30):  # no figure of speed: what costs more than its length would hang
            answer = await served.http.post(path, content=b'{"%s": %s}' % (field, nested), headers={"content-type": "application/json"})
        assert answer.status_code == 400, answer.text
        assert "more than 100 deep; flatten it" in error_of(answer)["message"]


async def test_a_body_at_the_limit_of_depth_is_read(served: Served) -> None:
    body = b'{"model": "memory", "messages": [{"role": "user", "content": "hello"}], "prediction": %s}' % (b"[" * 99 + b"]" * 99)
    answer = await served.http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert error_of(answer)["message"].startswith("prediction is not supported")


@pytest.mark.parametrize("path", ["/v1/memories", "/mcp"])
async def test_a_compressed_body_is_refused_with_the_fix(served: Served, path: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = await served.http.post(path, content=gzip.compress(b'{"text": "x"}'), headers=headers)
    assert answer.status_code == 415
    error = error_of(answer)
    assert (error["param"], error["code"]) == ("Content-Encoding", "unsupported_content_encoding")
    assert "send it uncompressed" in error["message"]


async def test_an_error_of_the_store_names_the_request_s_own_field(served: Served) -> None:
    naive = await served.http.post("/v1/memories", json={"text": "x", "valid_at": "2026-01-31T12:00:00"})
    assert (naive.status_code, error_of(naive)["param"]) == (400, "valid_at")
    assert "no time zone; write 2026-01-31T12:00:00Z" in error_of(naive)["message"]
    await served.http.post("/v1/memories", json={"text": "x", "id": "m1"})
    other = await served.http.post("/v1/memories", json={"text": "y", "id": "m1"})
    assert (other.status_code, error_of(other)["param"]) == (409, "id")


@pytest.mark.parametrize("end", ["2026-01-31T12:00:00Z", "2026-01-31T12:30:00+01:00"])
async def test_a_memory_that_ends_before_it_begins_is_refused(served: Served, end: str) -> None:
    body = {"text": "x", "valid_at": "2026-01-31T12:00:00Z", "invalid_at": end}
    answer = await served.http.post("/v1/memories", json=body)
    assert (answer.status_code, error_of(answer)["param"]) == (400, "invalid_at")
    assert "not after valid_at" in error_of(answer)["message"]
    assert (await served.http.post("/v1/memories", json={**body, "invalid_at": "2026-01-31T12:00:01Z"})).status_code == 201


@pytest.mark.parametrize("path", ["/health", "/healthz", "/ready"])
async def test_a_probe_may_ask_with_head(served: Served, path: str) -> None:
    answer = await served.http.head(path)
    assert answer.status_code == 200


async def test_a_context_beyond_the_window_is_told_with_both_lengths(served: Served) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            await served.openai.chat.completions.create(model="memory", messages=[{"role": "user", "content": "x" * 9000}], stream=stream)
        assert caught.value.code == "context_length_exceeded"
        assert caught.value.param == "messages"
        assert "window is 8192" in caught.value.message
        assert "has 9" in caught.value.message


async def test_the_openai_client_raises_its_own_error_types(served: Served) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await served.openai.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "x"}])
    assert caught.value.code == "model_not_found"


async def test_a_body_that_is_too_large_is_refused(served: Served) -> None:
    answer = await served.http.post("/v1/memories", content=b" " * (33 * 2**20), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert error_of(answer)["code"] == "request_too_large"


async def test_a_body_that_is_too_large_is_refused_without_a_length_too(served: Served) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(33):
            yield b" " * 2**20

    answer = await served.http.post("/v1/memories", content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert "larger than" in error_of(answer)["message"]


async def test_a_foreign_host_is_refused(served: Served) -> None:
    answer = await served.http.get("/v1/memories", headers={"host": "evil.example"})
    assert answer.status_code == 421
    assert error_of(answer)["param"] == "Host"


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "x-real-ip"])
async def test_what_comes_through_a_proxy_is_refused_where_there_are_no_keys(served: Served, name: str) -> None:
    answer = await served.http.get("/v1/memories", headers={name: "192.0.2.7"})
    assert answer.status_code == 403
    assert error_of(answer)["code"] == "proxied_without_keys"
    _, secret = KeyRing(served.home / "keys").create("phone")
    proxied = {name: "192.0.2.7", "host": "recollect.example.com", "origin": "https://chat.example.com"}
    assert (await served.http.get("/v1/memories", headers={**proxied, "authorization": f"Bearer {secret}"})).status_code == 200
    assert (await served.http.get("/v1/memories", headers=proxied)).status_code == 401


async def test_fields_that_change_nothing_are_taken(served: Served) -> None:
    answer = await served.ask(
        "hello",
        store=True,
        service_tier="auto",
        parallel_tool_calls=False,
        prompt_cache_key="k",
        reasoning_effort="low",
        response_format={"type": "text"},
        tool_choice="none",
        n=1,
        logprobs=False,
        tools=[],
    )
    assert answer["choices"][0]["message"]["content"] == "hello"


async def test_a_request_id_is_kept_or_made(served: Served) -> None:
    assert (await served.http.get("/health", headers={"x-request-id": "abc-1"})).headers["x-request-id"] == "abc-1"
    assert (await served.http.get("/health", headers={"x-request-id": "a b\x7f"})).headers["x-request-id"].startswith("req_")


async def test_a_body_that_is_not_declared_as_json_is_refused(served: Served) -> None:
    # A page in a browser can send text/plain to a loopback server without asking; JSON it cannot.
    answer = await served.http.post("/v1/memories", content=b'{"text": "x"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 400
    assert "content-type application/json" in error_of(answer)["message"]
