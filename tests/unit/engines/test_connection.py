"""The connection to an engine: an idle connection that the engine closes costs nobody a request."""

from __future__ import annotations

import asyncio

import pytest

from recollect.errors import EngineUnavailable
from server.engines.connection import Connection

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
