"""`POST /v1/chat/completions`, plain and streaming."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.identity import session_done, session_of
from server.routes.answering import Events, Whole, abandoned_when_gone, begun, memory_is_off
from server.routes.completion import Streamed, completion
from server.routes.wire import ServiceDep, identity_of
from server.routes.wire_chat import ChatBody
from server.service import ChatRequest

router = APIRouter()


@router.post("/v1/chat/completions", response_model=None)
async def chat_completions(body: ChatBody, request: Request, service: ServiceDep) -> Response:
    """Answer a conversation by the agent that `model` names."""
    body.check()
    exchange = await begun(service, _chat_request(body, request), request)
    created = int(time.time())
    async with abandoned_when_gone(exchange, request.receive):
        # What fails before the first token is an error with its own status, also for a stream.
        await exchange.begun()
        if not body.stream:
            return Whole(exchange, await completion(exchange, model=body.model, created=created))
    return Events(exchange, Streamed(exchange, model=body.model, created=created, include_usage=body.include_usage))


def _chat_request(body: ChatBody, request: Request) -> ChatRequest:
    metadata = body.metadata or {}
    identity = identity_of(request, metadata=metadata, safety_identifier=body.safety_identifier, user=body.user)
    messages = body.conversation()
    return ChatRequest(
        model=body.model,
        messages=messages,
        identity=identity,
        session=session_of(request.headers, metadata, messages, identity.namespace),
        sampling=body.sampling(),
        stream=bool(body.stream),
        use_memory=not memory_is_off(request, metadata),
        attached=body.attached,
        tools=body.offered(),
        asked={"store": False} if body.store is False else {},
        session_done=session_done(request.headers, metadata),
    )
