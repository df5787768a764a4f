"""The connection to an engine: an idle connection that the engine closes costs nobody a request."""

from __future__ import annotations

import asyncio
from functools import partial

import aiohttp
import pytest

from recollect.errors import EngineUnavailable
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
