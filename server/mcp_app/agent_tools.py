"""The tools on agents: ask one, say how its answer was, see where the server stands."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from recollect.errors import InvalidRequest
from recollect.memory import LOCAL_TENANT
from recollect.trajectory import Feedback
from server.identity import Identity
from server.mcp_app.calls import Whose, caller, namespace_of, question_of, told
from server.mcp_app.shapes import AgentAnswer, Noted, ServerStatus
from server.mcp_app.strict import hints, tool_of
from server.routes.limits import MAX_QUERY
from server.service import Service
from server.service.exchange import whole

Text = Annotated[str | None, Field(max_length=100_000)]


def agent_tools(service: Service) -> list[Tool]:
    """`ask_agent` and `send_feedback`."""

    async def ask_agent(
        question: Annotated[str, Field(max_length=MAX_QUERY, description="What to ask.")],
        ctx: Context[Any, Any],
        agent: Annotated[
            str, Field(description="memory: answers from memory and remembers the question. reader: reads a long document.")
        ] = "memory",
        document: Annotated[str | None, Field(description="The text that reader reads; it may be longer than any context window.")] = None,
        session: Annotated[str | None, Field(description="Ties calls together as one conversation.")] = None,
        namespace: Whose = None,
    ) -> AgentAnswer:
        """Let one of the server's own agents answer."""
        async with told(ctx, "chat"):
            identity = Identity(namespace_of(ctx, namespace), caller(ctx).key_id)
            exchange = await service.chat.begin(question_of(identity, question, agent, document, session))
            return AgentAnswer(
                answer=await whole(exchange),
                agent=agent,
                trajectory_id=exchange.trajectory_id,
                memory_ids=[m.id for m in exchange.memories],
            )

    async def send_feedback(
        trajectory_id: Annotated[str, Field(min_length=1, max_length=256, description="Of the answer that is meant.")],
        ctx: Context[Any, Any],
        label: Annotated[Literal["up", "down"] | None, Field(description="Whether the answer was good.")] = None,
        correction: Annotated[Text, Field(description="The right answer; it is learned from.")] = None,
        comment: Text = None,
    ) -> Noted:
        """Say how an agent's answer was, so that it learns. Only what the user said, never your own guess."""
        async with told(ctx, "feedback"):
            if label is None and not (correction or "").strip() and comment is None:
                raise InvalidRequest("it says nothing; give label, correction or comment", param="label")
            feedback = Feedback(id=trajectory_id, label=label, correction=correction, comment=comment)
            return Noted(trajectory_id=await service.feedback.give(feedback, caller(ctx).tenant))

    rewrites = service.settings.agents.writing == "operations"
    return [
        tool_of(ask_agent, hints("Ask an agent", destructive=rewrites)),
        tool_of(send_feedback, hints("Send feedback")),
    ]


def status_tool(service: Service) -> Tool:
    """`get_status`, which is in every profile."""

    async def get_status(ctx: Context[Any, Any]) -> ServerStatus:
        """Whether the server is ready, and which agents it has."""
        async with told(ctx, None):
            status = await service.status()
            return ServerStatus(
                ready=status.ready,
                detail=status.detail,
                version=status.version,
                agents=status.models,
                policies=status.policies if caller(ctx).tenant == LOCAL_TENANT else {},
                namespace=str(namespace_of(ctx, None)),
            )

    return tool_of(get_status, hints("Status", read_only=True))
