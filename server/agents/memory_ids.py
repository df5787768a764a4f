"""Ids of memories that agents write: the same step of the same trajectory always chooses the same ones."""

from __future__ import annotations

import hashlib

from recollect.memory import MemoryRecord, Provenance
from server.agents.base import AgentContext


def memory_id(ctx: AgentContext, step: int, position: int) -> str:
    """The id of the memory that `step` writes at `position`. A repeated write is then a no-op and not a second memory."""
    origin = f"{ctx.recorder.trajectory_id}/{step}/{position}"
    return f"mem_{hashlib.sha256(origin.encode()).hexdigest()[:24]}"


def provenance(ctx: AgentContext, step: int) -> Provenance:
    """The origin of what `step` writes."""
    return Provenance(trajectory_id=ctx.recorder.trajectory_id, step=step, session=ctx.session, channel=ctx.channel)


def is_own(record: MemoryRecord, ctx: AgentContext) -> bool:
    """True if this trajectory wrote the record: met again, it is a write whose acknowledgement was lost."""
    return record.provenance.trajectory_id == ctx.recorder.trajectory_id
