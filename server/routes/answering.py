"""Answers on their way to a client, in whatever protocol: whole, or as events, and stopped when the client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from recollect.errors import RecollectError
from server.service import ChatRequest, Exchange, Service
from server.service.exchange import CLIENT_GONE

MEMORY_HEADER = "x-memory"


def memory_is_off(request: Request, metadata: Mapping[str, str]) -> bool:
    """Whether the request wants nothing recalled or remembered."""
    return "off" in (request.headers.get(MEMORY_HEADER, "").lower(), metadata.get("memory", "").lower())


async def begun(service: Service, asked: ChatRequest, request: Request) -> Exchange:
    """Start to answer. A client that goes away while it waits for a place gives it up. Raises what `Chat.begin` raises."""
    if not service.chat.crowded:
        return await service.chat.begin(asked)
    beginning = asyncio.create_task(service.chat.begin(asked))
    leaving = asyncio.create_task(_gone(request.receive))
    try:
        await asyncio.wait({beginning, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not beginning.done():
            beginning.cancel()
            await asyncio.wait({beginning})
        if beginning.cancelled():
            raise RecollectError(CLIENT_GONE)
        return beginning.result()
    finally:
        leaving.cancel()
        beginning.cancel()


class Whole(JSONResponse):
    """A whole answer; what the agent remembers afterwards begins when it has gone out."""

    def __init__(self, exchange: Exchange, content: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(content, headers={**_headers(exchange), **(headers or {})})
        self._exchange = exchange

    def render(self, content: Any) -> bytes:
        return to_json(content)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._exchange.delivered()


class Events(Response):
    """Server-sent events, until the answer ends or the client goes away."""

    media_type = "text/event-stream"

    def __init__(self, exchange: Exchange, events: AsyncIterable[bytes], headers: Mapping[str, str] | None = None) -> None:
        more = {"cache-control": "no-cache", "x-accel-buffering": "no", **(headers or {})}
        super().__init__(headers={**_headers(exchange), **more})
        del self.headers["content-length"]
        self._exchange = exchange
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with abandoned_when_gone(self._exchange, receive):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for data in self._events:
                    if data:
                        await send({"type": "http.response.body", "body": data, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._exchange.abandon()


def _headers(exchange: Exchange) -> dict[str, str]:
    return {"x-recollect-trajectory": exchange.trajectory_id, "x-recollect-policy": ", ".join(exchange.policies.values())}


@asynccontextmanager
async def abandoned_when_gone(exchange: Exchange, receive: Receive) -> AsyncGenerator[None]:
    """Stop the exchange if the client closes the connection in the meantime, or the block fails."""

    async def watch() -> None:
        await _gone(receive)
        exchange.abandon()

    watching = asyncio.create_task(watch())
    try:
        yield
    except BaseException:
        exchange.abandon()
        raise
    finally:
        watching.cancel()


async def _gone(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
