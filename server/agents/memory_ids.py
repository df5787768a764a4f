"""Ids of memories that agents write: the same step of the same trajectory always chooses the same ones."""

from __future__ import annotations

import hashlib

from recollect.memory import MemoryRecord, Provenance
from server.agents.base import AgentContext


def memory_id(ctx: AgentContext, step: int, position: int) -> str:
    """The id of the memory that `step` writes at `position`. A repeated write is then a no-op and not a second memory.

    Those of one trajectory sort as they were written, so that a prompt shows the memories of one commit in the order of what was said.
    """
    return f"mem_{hashlib.sha256(ctx.recorder.trajectory_id.encode()).hexdigest()[:16]}{step:04x}{position:04x}"


def provenance(ctx: AgentContext, step: int) -> Provenance:
    """The origin of what `step` writes."""
    return Provenance(trajectory_id=ctx.recorder.trajectory_id, step=step, session=ctx.session, channel=ctx.channel)


def is_own(record: MemoryRecord, ctx: AgentContext) -> bool:
    """True if this trajectory wrote the record: met again, it is a write whose acknowledgement was lost."""
    return record.provenance.trajectory_id == ctx.recorder.trajectory_id
