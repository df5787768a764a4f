"""What clients may attach by hand: a memory, what is known of a namespace, the server's status; and prompts to begin with."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ToolError

from recollect.errors import NotFound
from server.mcp_app.calls import caller, namespace_of, told
from server.service import Service
from server.service.delegation import Delegation

NEWEST = 20
COUNTED = 10_000
OWN = "me"
CURRENT = "current"


def add_resources(server: MCPServer[Any], service: Service) -> None:
    """Offer them. What belongs to a tenant is a template: only such a resource is told who reads it."""

    @server.resource("recollect://status", name="status", title="Status", mime_type="application/json")
    async def status() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        """Whether the server is ready, and its agents."""
        found = await service.status()
        return {"ready": found.ready, "detail": found.detail, "version": found.version, "agents": found.models}

    @server.resource("recollect://memories/{id}", name="memory", title="A memory", mime_type="application/json")
    async def memory(id: str, ctx: Context[Any, Any]) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        """One memory of the connection's namespace."""
        try:
            async with told(ctx, "memory"):
                return (await service.memories.get(namespace_of(ctx, None), id)).model_dump(mode="json")
        except ToolError as exc:
            raise ResourceError(str(exc)) from exc

    @server.resource("recollect://profiles/{namespace}", name="profile", title="What is remembered", mime_type="application/json")
    async def profile(namespace: str, ctx: Context[Any, Any]) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        """How much is remembered in a namespace (`me`: the connection's own), of which kinds and tags, and the newest of it."""
        try:
            async with told(ctx, "memory"):
                whose = namespace_of(ctx, None if namespace == OWN else namespace)
                records = await service.memories.list(whose, limit=COUNTED)
        except ToolError as exc:
            raise ResourceError(str(exc)) from exc
        return {
            "namespace": str(whose),
            "memories": len(records),
            "kinds": Counter(record.kind for record in records),
            "tags": dict(Counter(tag for record in records for tag in record.tags).most_common(NEWEST)),
            "newest": [{"id": record.id, "text": record.text} for record in records[:NEWEST]],
        }


def add_plan(server: MCPServer[Any], delegation: Delegation) -> None:
    """Offer the configuration of delegated work."""

    @server.resource("recollect://delegation/{version}", name="delegation", title="Delegation", mime_type="application/json")
    async def plan(version: str, ctx: Context[Any, Any]) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        """Who may be asked to do what (`current`); it holds no key."""
        try:
            async with told(ctx, "chat"):
                delegation.admit(caller(ctx).tenant)
                if version not in (CURRENT, delegation.version):
                    raise NotFound(f"no version {version!r} of the configuration; read recollect://delegation/{CURRENT}", param="version")
        except ToolError as exc:
            raise ResourceError(str(exc)) from exc
        # Who else may ask is no tenant's business.
        return {"version": delegation.version, **delegation.plan.model_dump(mode="json", exclude={"tenants"})}


def add_prompts(server: MCPServer[Any]) -> None:
    """Offer them."""

    @server.prompt(title="Recall")
    def recall(topic: str) -> str:  # pyright: ignore[reportUnusedFunction]
        """Look up what is remembered of a topic before going on."""
        return f"Call search_memories for: {topic}\nThen tell me in a few lines what is remembered of it, with the ids."

    @server.prompt(title="Remember this conversation")
    def remember_conversation() -> str:  # pyright: ignore[reportUnusedFunction]
        """Keep what this conversation taught."""
        return (
            "Go through our conversation. For every decision, preference, fact or lesson that will matter in a later one, call "
            "search_memories first, then update_memory where it is known in another form, or add_memory with one or two sentences "
            "that make sense on their own. Keep no secrets, and nothing that a file in the project says already."
        )
