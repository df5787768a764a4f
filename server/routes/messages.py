"""`POST /v1/messages` and `/v1/messages/count_tokens`: the agents for clients of Anthropic's API, Claude Code among them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from server.identity import session_done, session_of, told_by_user_id
from server.routes.answering import Events, Whole, abandoned_when_gone, begun, memory_is_off
from server.routes.message_events import MessageEvents, message
from server.routes.wire import ServiceDep, identity_of
from server.routes.wire_messages import MessagesBody, Prompt
from server.service import ChatRequest

router = APIRouter()


@router.post("/v1/messages", response_model=None)
async def messages(body: MessagesBody, request: Request, service: ServiceDep) -> Response:
    """Answer a conversation by the agent that `model` names."""
    exchange = await begun(service, _chat_request(body, request), request)
    headers = body.unread()
    async with abandoned_when_gone(exchange, request.receive):
        await exchange.begun()
        if not body.stream:
            return Whole(exchange, await message(exchange, model=body.model, thinking=body.shows_thinking), headers)
    return Events(exchange, MessageEvents(exchange, model=body.model, thinking=body.shows_thinking), headers)


@router.post("/v1/messages/count_tokens", response_model=None)
async def count_tokens(body: Prompt, service: ServiceDep) -> Response:
    """How many tokens the prompt has, without the memories that an agent would add."""
    counted = await service.chat.count(body.conversation(), body.offered())
    headers = {} if counted.exact else {"x-recollect-estimated": "true"}
    return JSONResponse({"input_tokens": counted.tokens}, headers=headers)


def _chat_request(body: MessagesBody, request: Request) -> ChatRequest:
    claimed: dict[str, Any] = (body.metadata.model_extra or {}) if body.metadata else {}
    metadata = {name: value for name, value in claimed.items() if isinstance(value, str)}
    user, session = told_by_user_id(body.metadata.user_id if body.metadata else None)
    if session:
        metadata.setdefault("session_id", session)
    identity = identity_of(request, metadata=metadata, user=user)
    conversation = body.conversation()
    return ChatRequest(
        model=body.model,
        messages=conversation,
        identity=identity,
        session=session_of(request.headers, metadata, conversation, identity.namespace),
        sampling=body.sampling(),
        stream=bool(body.stream),
        use_memory=not memory_is_off(request, metadata),
        attached=body.attached,
        tools=body.offered(),
        instructed=bool(body.system),
        session_done=session_done(request.headers, metadata),
    )
