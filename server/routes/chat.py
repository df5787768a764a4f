"""`POST /v1/chat/completions`, plain and streaming."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from server.identity import session_done, session_of
from server.routes.completion import Streamed, completion
from server.routes.wire import ServiceDep, identity_of
from server.routes.wire_chat import ChatBody
from server.service import ChatRequest, Exchange

MEMORY_HEADER = "x-memory"
router = APIRouter()


@router.post("/v1/chat/completions", response_model=None)
async def chat_completions(body: ChatBody, request: Request, service: ServiceDep) -> Response:
    """Answer a conversation by the agent that `model` names."""
    body.check()
    exchange = await service.chat.begin(_chat_request(body, request))
    created = int(time.time())
    async with _abandoned_when_gone(exchange, request.receive):
        # What fails before the first token is an error with its own status, also for a stream.
        await exchange.begun()
        if not body.stream:
            return _Plain(exchange, await completion(exchange, model=body.model, created=created))
    return _Events(exchange, Streamed(exchange, model=body.model, created=created, include_usage=body.include_usage))


def _chat_request(body: ChatBody, request: Request) -> ChatRequest:
    metadata = body.metadata or {}
    identity = identity_of(request, metadata=metadata, safety_identifier=body.safety_identifier, user=body.user)
    messages = body.conversation()
    off = "off" in (request.headers.get(MEMORY_HEADER, "").lower(), metadata.get("memory", "").lower())
    return ChatRequest(
        model=body.model,
        messages=messages,
        identity=identity,
        session=session_of(request.headers, metadata, messages, identity.namespace),
        sampling=body.sampling(),
        stream=bool(body.stream),
        use_memory=not off,
        attached=body.attached,
        session_done=session_done(request.headers, metadata),
    )


class _Plain(JSONResponse):
    """A whole answer; what the agent remembers afterwards begins when it has gone out."""

    def __init__(self, exchange: Exchange, content: dict[str, Any]) -> None:
        super().__init__(content, headers=_headers(exchange))
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._exchange.delivered()


class _Events(Response):
    """Server-sent events, until the answer ends or the client goes away."""

    media_type = "text/event-stream"

    def __init__(self, exchange: Exchange, events: Streamed) -> None:
        super().__init__(headers={**_headers(exchange), "cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._exchange = exchange
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with _abandoned_when_gone(self._exchange, receive):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for data in self._events:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._exchange.abandon()


def _headers(exchange: Exchange) -> dict[str, str]:
    return {"x-recollect-trajectory": exchange.trajectory_id, "x-recollect-policy": ", ".join(exchange.policies.values())}


@asynccontextmanager
async def _abandoned_when_gone(exchange: Exchange, receive: Receive) -> AsyncGenerator[None]:
    """Stop the exchange if the client closes the connection in the meantime, or the block fails."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        exchange.abandon()

    watching = asyncio.create_task(watch())
    try:
        yield
    except BaseException:
        exchange.abandon()
        raise
    finally:
        watching.cancel()
