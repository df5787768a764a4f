"""The connection to an engine: an idle connection that the engine closes costs nobody a request."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Any

import aiohttp
import pytest

from recollect.errors import EngineError, EngineUnavailable, RecollectError
from recollect.messages import user
from recollect.policy import Policy
from server.engines.base import Sampling
from server.engines.connection import Connection
from server.engines.upstream import OpenAIUpstream

BODY = b'{"right": true}'
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


async def _calling(closed_first: int) -> object:
    """What a call gives on a server that closes its first `closed_first` connections instead of answering."""
    calls = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await reader.readuntil(b"\r\n\r\n")
        if calls > closed_first:
            writer.write(RESPONSE)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = Connection(f"http://127.0.0.1:{port}")
        try:
            return await connection.post_json("/v1/completions", {"prompt": [1]})
        finally:
            await connection.close()


async def test_a_connection_that_closes_as_the_request_goes_out_is_tried_once_more() -> None:
    assert await _calling(closed_first=1) == {"right": True}


async def test_a_server_that_answers_nothing_twice_is_unavailable() -> None:
    with pytest.raises(EngineUnavailable, match="no answer from"):
        await _calling(closed_first=2)


async def test_a_server_that_is_just_being_replaced_is_found_by_the_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(RESPONSE)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as before:
        port = before.sockets[0].getsockname()[1]
    connection = Connection(f"http://127.0.0.1:{port}")
    servers: list[asyncio.Server] = []

    async def refused(*_: object) -> None:
        servers.append(await asyncio.start_server(serve, "127.0.0.1", port))

    trace = aiohttp.TraceConfig()
    trace.on_request_exception.append(refused)
    monkeypatch.setattr(aiohttp, "ClientSession", partial(aiohttp.ClientSession, trace_configs=[trace]))
    assert await connection.post_json("/v1/completions", {"prompt": [1]}) == {"right": True}
    await connection.close()
    [server] = servers
    server.close()


async def test_what_breaks_off_after_its_first_piece_is_not_asked_for_again() -> None:
    calls = 0
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "Once"}, "finish_reason": null}]}\n\n'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
        await writer.drain()
        writer.close()

    said: list[str] = []

    async def read(engine: OpenAIUpstream) -> None:
        async for chunk in engine.chat([user("tell")], policy=Policy(base="m"), sampling=Sampling(), stream=True):
            said.append(chunk.text)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        engine = OpenAIUpstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "m")
        with pytest.raises(EngineUnavailable):
            await read(engine)
        await engine.close()
    assert (said, calls) == (["Once"], 1)


async def _all(connection: Connection) -> list[dict[str, Any]]:
    return [event async for event in connection.events("/v1/chat/completions", {})]


async def _told(status: int, body: bytes, *headers: bytes, stream: bool = False) -> RecollectError:
    """What a call says of a server that answers so."""
    lines = [b"HTTP/1.1 %d Odd" % status, b"content-length: %d" % len(body), *headers]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        connection = Connection(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", api_key="sk-secret-4711")
        try:
            with pytest.raises(RecollectError) as told:
                await (_all(connection) if stream else connection.post_json("/v1/chat/completions", {}))
            return told.value
        finally:
            await connection.close()


async def test_a_redirect_is_not_followed() -> None:
    elsewhere: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        elsewhere.append(await reader.read(10))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as other:
        to = b"location: http://127.0.0.1:%d/steal" % other.sockets[0].getsockname()[1]
        told = await _told(307, b"", to)
    assert isinstance(told, EngineError)
    assert "sends elsewhere" in told.message
    assert elsewhere == []


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
async def test_a_key_that_a_server_repeats_is_told_to_nobody(status: int) -> None:
    told = await _told(status, b'{"error": {"message": "bad key Bearer sk-secret-4711"}}')
    assert "***" in told.message
    assert "4711" not in told.message


async def test_a_key_in_a_streams_error_is_told_to_nobody() -> None:
    told = await _told(200, b'data: {"error": {"message": "bad key sk-secret-4711"}}\n\n', stream=True)
    assert "4711" not in told.message


async def test_a_long_text_is_no_error_message() -> None:
    assert len((await _told(500, b'{"error": {"message": "%s"}}' % (b"E" * 100_000))).message) < 1_000


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"error": ' * 5_000, b"[1]", b"7", b"not json"])
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_rubbish_is_the_engines_error(status: int, body: bytes) -> None:
    assert not isinstance(await _told(status, body), EngineUnavailable)


@pytest.mark.parametrize("value", ["\u00b2".encode(), b"9" * 5_000, b"soon"])
async def test_an_odd_retry_after_is_left_out(value: bytes) -> None:
    told = await _told(429, b"{}", b"retry-after: " + value)
    assert isinstance(told, EngineUnavailable)
    assert told.retry_after_s == 5


@pytest.mark.parametrize("stream", [False, True])
async def test_a_body_beyond_any_measure_is_refused(monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    monkeypatch.setattr("server.engines.connection.MAX_BODY", 10_000)
    told = await _told(200, b"x" * 200_000, stream=stream)
    assert "more than 10000 bytes" in told.message
