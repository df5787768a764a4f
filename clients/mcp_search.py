"""A search by MCP, as any MCP client would do it."""

from __future__ import annotations

from mcp import Client

from recollect.errors import EngineError


async def search_by_mcp(url: str, query: str, *, scope: str, limit: int = 8) -> list[tuple[float, str]]:
    """Scores and texts of what `search_memories` finds in the memory of `scope`. Raises EngineError if the tool refuses."""
    async with Client(url) as client:
        result = await client.call_tool("search_memories", {"query": query, "namespace": scope, "limit": limit})
    if result.is_error or result.structured_content is None:
        raise EngineError(f"search_memories failed: {result.content}")
    return [(float(found["score"] or 0.0), str(found["text"])) for found in result.structured_content["memories"]]
