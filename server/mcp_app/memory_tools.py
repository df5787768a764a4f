"""The tools on memories: search, add, look at, change and delete one."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from recollect.errors import InvalidRequest
from recollect.memory import Filters, Kind
from server.mcp_app.calls import Whose, namespace_of, told
from server.mcp_app.shapes import AddedMemory, DeletedMemory, FoundMemories, UpdatedMemory, WholeMemory, found, whole_memory
from server.mcp_app.strict import hints, tool_of
from server.routes.limits import MAX_QUERY
from server.service import Service
from server.service.changes import Change

Id = Annotated[str, Field(description="The id that search_memories or add_memory gave.")]


def memory_tools(service: Service) -> list[Tool]:
    """They read and write one namespace of the caller's tenant."""

    async def search_memories(
        query: Annotated[str, Field(max_length=MAX_QUERY, description="What to look for, in words or as a question.")],
        ctx: Context[Any, Any],
        limit: Annotated[int, Field(ge=1, le=50)] = 8,
        kind: Annotated[Kind | None, Field(description="Only facts, turns of conversations, or ways to do things.")] = None,
        tags: Annotated[list[str] | None, Field(max_length=32, description="Only with all of these tags.")] = None,
        namespace: Whose = None,
    ) -> FoundMemories:
        """Find what is remembered, best match first. Use it before answering from guesswork."""
        async with told(ctx, "memory"):
            whose = namespace_of(ctx, namespace)
            hits = await service.memories.search(whose, query, limit=limit, filters=Filters(kind=kind, tags=tuple(tags or ())))
            return FoundMemories(namespace=str(whose), memories=[found(hit.record, hit.score) for hit in hits])

    async def add_memory(
        text: Annotated[str, Field(description="One fact in one or two sentences that make sense on their own.")],
        ctx: Context[Any, Any],
        id: Annotated[str | None, Field(description="An id of your choice; repeating the call with it is harmless.")] = None,
        namespace: Whose = None,
    ) -> AddedMemory:
        """Remember a fact for later conversations. Durable when this returns."""
        async with told(ctx, "memory"):
            whose = namespace_of(ctx, namespace)
            record = await service.memories.add(whose, text, memory_id=id, channel="mcp")
            return AddedMemory(id=record.id, namespace=record.namespace, text=record.text)

    async def get_memory(id: Id, ctx: Context[Any, Any], namespace: Whose = None) -> WholeMemory:
        """One memory with where it comes from and how often it was changed."""
        async with told(ctx, "memory"):
            whose = namespace_of(ctx, namespace)
            record = await service.memories.get(whose, id)
            return whole_memory(record, len(await service.memories.history(whose, id)))

    async def update_memory(
        id: Id,
        ctx: Context[Any, Any],
        text: Annotated[str | None, Field(description="The whole new text. Left out: it stays.")] = None,
        tags: Annotated[list[str] | None, Field(max_length=32, description="All its tags from now on.")] = None,
        namespace: Whose = None,
    ) -> UpdatedMemory:
        """Replace what has changed in a memory; the version before is kept in its history."""
        async with told(ctx, "memory"):
            if text is None and tags is None:
                raise InvalidRequest("nothing is changed; give text or tags", param="text")
            whose = namespace_of(ctx, namespace)
            changed = {} if text is None else {"text": text}
            change = Change.model_validate({"op": "update", "id": id, **changed, **({} if tags is None else {"tags": tuple(tags)})})
            record = await service.memories.update(whose, change, channel="mcp")
            return UpdatedMemory(id=record.id, namespace=record.namespace, text=record.text, seq=record.seq_from)

    async def delete_memory(id: Id, ctx: Context[Any, Any], namespace: Whose = None) -> DeletedMemory:
        """Delete one memory that is wrong or no longer wanted. One at a time, on purpose."""
        async with told(ctx, "memory"):
            whose = namespace_of(ctx, namespace)
            await service.memories.delete(whose, id)
            return DeletedMemory(id=id, namespace=str(whose), deleted=True)

    return [
        tool_of(search_memories, hints("Search memories", read_only=True)),
        tool_of(add_memory, hints("Add a memory")),
        tool_of(get_memory, hints("Get a memory", read_only=True)),
        tool_of(update_memory, hints("Update a memory", destructive=True, idempotent=True)),
        tool_of(delete_memory, hints("Delete a memory", destructive=True, idempotent=True)),
    ]
