"""A turn kept as it was said, by no model call: what `episodic` writing does, and any agent whose budget of calls is used up."""

from __future__ import annotations

from recollect.memory import MAX_TEXT, MemoryWrite
from recollect.trajectory import MemoryOp
from server.agents.base import AgentContext
from server.agents.memory_ids import is_own, memory_id, provenance
from server.agents.verbatim import find_verbatim

WRITER = "writer"


async def keep_turn(turn: str, ctx: AgentContext) -> None:
    """Commit a user's turn as episodic memory, unless the same words are remembered already. Called again it writes nothing twice."""
    begun = ctx.recorder.of_role(WRITER)
    if not turn or (begun and begun[0].memory_ops):
        return
    parts = [turn[i : i + MAX_TEXT] for i in range(0, len(turn), MAX_TEXT)]
    known = [await find_verbatim(part, ctx) for part in parts]
    new = [part for part, found in zip(parts, known, strict=True) if found is None or is_own(found, ctx)]
    if not new:
        return
    step = begun[0].index if begun else ctx.recorder.begin_operation(WRITER)
    writes = [_episode(text, position, step, ctx) for position, text in enumerate(new)]
    await ctx.store.apply(ctx.namespace, writes)
    ctx.recorder.amend(step, memory_ops=[MemoryOp(op="add", id=write.id, text=write.text) for write in writes])


def _episode(text: str, position: int, step: int, ctx: AgentContext) -> MemoryWrite:
    return MemoryWrite(
        op="add",
        id=memory_id(ctx, step, position),
        text=text,
        kind="episodic",
        valid_at=ctx.at,
        provenance=provenance(ctx, step),
        trust="user",
    )
