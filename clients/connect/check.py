"""Whether a client that was connected would reach the server: its own command is run and asked, and its model's endpoint too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from clients.mcp_stdio import leaf
from recollect.errors import EngineUnavailable, RecollectError

TIMEOUT_S = 90.0


async def tools_answer(command: Sequence[str]) -> str:
    """A sentence on what the MCP server over stdio offers. Raises EngineUnavailable with what went wrong."""
    parameters = StdioServerParameters(command=command[0], args=list(command[1:]))
    try:
        async with asyncio.timeout(TIMEOUT_S), Client(stdio_client(parameters)) as client:
            tools = (await client.list_tools()).tools
            status = await client.call_tool("get_status", {})
    except (TimeoutError, OSError, RecollectError, ExceptionGroup) as exc:
        raise EngineUnavailable(f"the MCP server did not answer: {leaf(exc)}") from exc
    found: dict[str, Any] = status.structured_content or {}
    ready = "ready" if found.get("ready") else f"not ready: {found.get('detail')}"
    return f"{len(tools)} tools over stdio, namespace {found.get('namespace')}; the server is {ready}"


async def models_of(url: str, key: str) -> list[str]:
    """The models at `url`, the base model last. Raises EngineUnavailable with what went wrong."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as http:
            answer = await http.get("/v1/models")
    except httpx.HTTPError as exc:
        raise EngineUnavailable(f"no answer from {url}: {exc or type(exc).__name__}; start it: recollect serve") from exc
    if answer.status_code != 200:
        raise EngineUnavailable(f"{url} answered {answer.status_code}: {answer.json()['error']['message']}")
    return [model["id"] for model in answer.json()["data"]]
