"""What an exchange said, gathered: the same for every protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recollect.tools import ToolCall
from server.agents.base import StreamEvent
from server.engines.base import add_pieces
from server.service import Exchange


@dataclass(slots=True)
class Said:
    """One choice of an answer."""

    text: str = ""
    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    told: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    finish_reason: str | None = None
    stopped_by: str | None = None

    def add(self, event: StreamEvent) -> None:
        """What came of it."""
        self.text += event.text
        add_pieces(self.calls, event.calls)
        self.told += event.told
        self.finish_reason = event.finish_reason or self.finish_reason
        self.stopped_by = event.stopped_by or self.stopped_by


def extension(exchange: Exchange) -> dict[str, Any]:
    """The body field `recollect` of an answer."""
    memories = [{"id": memory.id, "score": memory.score} for memory in exchange.memories]
    spent = {role: used.model_dump() for role, used in exchange.spent.items()}
    return {"trajectory_id": exchange.trajectory_id, "policies": exchange.policies, "memories": memories, "spent": spent}


async def whole(exchange: Exchange) -> dict[int, Said]:
    """The choices of an answer, by index. Raises what the exchange raises."""
    said: dict[int, Said] = {}
    async for event in exchange:
        said.setdefault(event.index, Said()).add(event)
    return said
