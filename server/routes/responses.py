"""`POST /v1/responses`: the agents for clients of OpenAI's responses, Codex among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from recollect.messages import Message
from server.identity import Identity, session_done, session_of
from server.routes.answering import Events, Whole, abandoned_when_gone, begun, memory_is_off
from server.routes.response_events import ResponseEvents, response
from server.routes.response_items import Asked, Names
from server.routes.wire import ServiceDep, identity_of
from server.routes.wire_responses import CALLED, Offered, ResponsesBody, names_in
from server.service import ChatRequest, Earlier

router = APIRouter()


@router.post("/v1/responses", response_model=None)
async def responses(body: ResponsesBody, request: Request, service: ServiceDep) -> Response:
    """Answer a conversation by the agent that `model` names; with `previous_response_id` it goes on where that answer ended."""
    body.check()
    metadata = body.metadata or {}
    identity = identity_of(request, metadata=metadata, safety_identifier=body.safety_identifier, user=body.user)
    before = body.previous_response_id
    earlier = await service.responses.earlier(before, identity.namespace) if before else Earlier()
    asked, headers = _asked(body), body.unread()
    exchange = await begun(service, _chat_request(body, request, identity, earlier, asked), request)
    async with abandoned_when_gone(exchange, request.receive):
        await exchange.begun()
        if not body.stream:
            return Whole(exchange, await response(exchange, asked), headers)
    return Events(exchange, ResponseEvents(exchange, asked), headers)


def _chat_request(body: ResponsesBody, request: Request, identity: Identity, earlier: Earlier, asked: Asked) -> ChatRequest:
    metadata = body.metadata or {}
    conversation = body.conversation_of(earlier.messages)
    return ChatRequest(
        model=body.model,
        messages=conversation,
        identity=identity,
        session=session_of(request.headers, {"session_id": earlier.session, **metadata}, conversation, identity.namespace),
        sampling=body.sampling(),
        stream=bool(body.stream),
        use_memory=not memory_is_off(request, metadata),
        attached=body.attached,
        tools=body.offered(),
        instructed=bool(body.instructions),
        asked=_kept(asked, _called(conversation, {**names_in(earlier.asked), **body.called()}, asked.names)),
        session_done=session_done(request.headers, metadata),
    )


def _called(conversation: Sequence[Message], known: Names, offered: Names) -> dict[str, Offered]:
    """How the client names what was called and is not offered now; what is not there is a function by its own name."""
    names = {call.name for message in conversation for call in message.tool_calls} - set(offered)
    return {name: tool for name in sorted(names) if (tool := known.get(name)) is not None and (tool.custom or tool.namespace is not None)}


def _kept(asked: Asked, called: Names) -> dict[str, Any]:
    """What is logged of it: instructions are a message, unless they are empty, and what is not to be stored cannot be asked for."""
    if not asked.echo["store"]:
        return {"store": False}
    kept = {name: value for name, value in asked.echo.items() if name != "instructions" or value == ""}
    return {**kept, CALLED: dict(called)} if called else kept


def _asked(body: ResponsesBody) -> Asked:
    sent = body.model_dump(mode="json", include={"tools", "tool_choice", "text"}, by_alias=True, exclude_none=True)
    echo = {
        "model": body.model,
        "instructions": body.instructions,
        "previous_response_id": body.previous_response_id,
        "max_output_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "tool_choice": sent.get("tool_choice", "auto"),
        "tools": sent.get("tools", []),
        "text": sent.get("text", {"format": {"type": "text"}}),
        "metadata": body.metadata or {},
        "truncation": "disabled",
        "store": body.store is not False,
    }
    return Asked(echo, body.names())
