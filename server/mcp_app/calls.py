"""Who calls a tool, whose memory is meant, and how an error is told."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field
from starlette.requests import Request

from recollect.errors import ContextTooLong, RecollectError
from recollect.keys import Scope
from recollect.memory import Namespace
from recollect.messages import Message, user
from server.identity import OPEN_WEBUI_HEADER, SCOPE_HEADER, Claims, Identity, identify, session_of
from server.principal import Principal, principal_of
from server.service import ChatRequest
from server.service.exchange import defect

logger = logging.getLogger(__name__)
Whose = Annotated[str | None, Field(description="Whose memories: a user's id, or user/42:agent/coach. Default: the connection's own.")]
_ARGUMENTS = {"metadata.memory_scope": "namespace", "metadata.session_id": "session", "model": "agent", "messages": "question"}
"""The tools' arguments by the names that the service's errors have for them, which are those of HTTP."""


@asynccontextmanager
async def told(ctx: Context[Any, Any], scope: Scope | None) -> AsyncGenerator[None]:
    """Refuse a caller whose key lacks the scope; tell any what went wrong, in words that name the argument and the fix."""
    try:
        if scope is not None:
            caller(ctx).require(scope)
        yield
    except ContextTooLong as exc:
        said = f"the prompt has {exc.prompt_tokens} tokens, the model's window is {exc.window_tokens}; shorten question or document"
        raise ToolError(said) from exc
    except RecollectError as exc:
        raise ToolError(_by_argument(exc)) from exc
    except Exception as exc:
        # The boundary of a tool call: what is not ours is a defect, logged without what the user wrote.
        logger.error("an MCP tool failed: %s", defect(exc))
        raise ToolError("the server failed; its log names the defect") from exc


def _by_argument(exc: RecollectError) -> str:
    """The error's message, with the tool's argument for the service's field."""
    param = (exc.param or "").removeprefix("writes.0.")
    name = _ARGUMENTS.get(param, param)
    if not name:
        return exc.message
    rest = exc.message.removeprefix(param)
    return name + rest if rest != exc.message else f"{name}: {exc.message}"


def caller(ctx: Context[Any, Any]) -> Principal:
    """Whose key it is."""
    return principal_of(cast("Request", ctx.request_context.request))


def namespace_of(ctx: Context[Any, Any], named: str | None) -> Namespace:
    """Whose memories are meant: by the URL, a header, or the argument. Raises InvalidRequest."""
    request = cast("Request", ctx.request_context.request)
    claims = Claims(
        url_namespace=request.scope.get("recollect.namespace"),
        scope=request.headers.get(SCOPE_HEADER),
        metadata_scope=named,
        open_webui_user=request.headers.get(OPEN_WEBUI_HEADER),
    )
    return identify(claims, tenant=principal_of(request).tenant).namespace


def question_of(identity: Identity, question: str, agent: str, document: str | None, session: str | None) -> ChatRequest:
    """A question to an agent, with the document that it is about."""
    messages: tuple[Message, ...] = (*((user(document),) if document else ()), user(question))
    metadata = {"session_id": session} if session else {}
    return ChatRequest(
        model=agent,
        messages=messages,
        identity=identity,
        session=session_of({}, metadata, messages, identity.namespace),
        channel="mcp",
    )
