"""What an exchange said, gathered: the same for every protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recollect.tools import ToolCall
from recollect.trajectory import Step
from server.agents.base import StreamEvent
from server.engines.base import add_pieces
from server.routes.told import SaidTokens
from server.service import Exchange
from server.service.exchange import shown_in
from server.service.spending import by_role


@dataclass(slots=True)
class Said:
    """One choice of an answer."""

    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    told: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    finish_reason: str | None = None
    stopped_by: str | None = None
    tokens: SaidTokens = field(default_factory=SaidTokens)

    def add(self, event: StreamEvent) -> None:
        """What came of it."""
        self.text += event.text
        self.reasoning += event.reasoning
        add_pieces(self.calls, event.calls)
        self.told += self.tokens.told(event)
        self.finish_reason = event.finish_reason or self.finish_reason
        self.stopped_by = event.stopped_by or self.stopped_by


def extension(exchange: Exchange) -> dict[str, Any]:
    """The body field `recollect` of an answer."""
    return extension_of(exchange.trajectory_id, exchange.policies, exchange.steps)


def extension_of(trajectory_id: str, policies: Mapping[str, str], steps: Sequence[Step]) -> dict[str, Any]:
    """The same of an answer that made these steps."""
    memories = [{"id": memory.id, "score": memory.score} for memory in shown_in(steps)]
    spent = {role: used.model_dump() for role, used in by_role(steps).items()}
    return {"trajectory_id": trajectory_id, "policies": dict(sorted(policies.items())), "memories": memories, "spent": spent}


async def whole(exchange: Exchange) -> dict[int, Said]:
    """The choices of an answer, by index. Raises what the exchange raises."""
    said: dict[int, Said] = {}
    async for event in exchange:
        said.setdefault(event.index, Said()).add(event)
    return said
