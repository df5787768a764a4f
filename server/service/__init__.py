"""The use cases. HTTP and MCP call only these."""

from __future__ import annotations

from server.service.chat import Chat, ChatRequest
from server.service.exchange import Exchange
from server.service.ids import COMPLETION_PREFIX, MESSAGE_PREFIX, RESPONSE_PREFIX
from server.service.responses import Earlier, Responses
from server.service.service import Part, Service, Status

__all__ = [
    "COMPLETION_PREFIX",
    "MESSAGE_PREFIX",
    "RESPONSE_PREFIX",
    "Chat",
    "ChatRequest",
    "Earlier",
    "Exchange",
    "Part",
    "Responses",
    "Service",
    "Status",
]
