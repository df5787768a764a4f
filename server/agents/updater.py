"""Memory operations from a user's turn and the memories related to it (Memory-R1, arXiv 2508.19828: ADD, UPDATE, DELETE, NOOP)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from recollect.errors import NotFound
from recollect.memory import Filters, MemoryRecord, MemoryWrite
from recollect.settings import AgentSettings
from recollect.trajectory import MemoryOp, Step
from server.agents import operations
from server.agents.asking import asked
from server.agents.base import AgentContext, AgentRequest
from server.agents.dates import dated
from server.agents.fence import Fence
from server.agents.memory_ids import memory_id, provenance
from server.agents.modules import Fact
from server.agents.operations import Operation
from server.agents.prompts import Prompt, load_prompt
from server.agents.retriever import Recalled, Retriever
from server.agents.sampling import inner
from server.agents.verbatim import find_verbatim, words
from server.agents.wiring import ModuleOptions, Wiring, module

ROLE = "updater"
FACTS = Filters(kind="semantic", trust=("operator", "user", "unknown"))
"""What the policy may rewrite: what a tool, a document or an assistant said does not become a fact about the user."""
MAX_OPERATIONS = 16
"""Of one step; what a policy that repeats itself asks for beyond them is not applied."""


class UpdaterOptions(ModuleOptions):
    """How many memories the policy is shown, and how long they may be together."""

    related: int = Field(ge=1, le=20)
    max_chars: int = Field(ge=1)

    @classmethod
    def defaults(cls, settings: AgentSettings) -> dict[str, object]:
        return {"related": settings.related, "max_chars": settings.memory_chars}


@module("updater", "operations")
@dataclass(frozen=True, slots=True)
class Updater:
    """One call of the policy `alias`, then one batch of writes: all of them or none."""

    Options: ClassVar = UpdaterOptions

    alias: str
    prompt: Prompt
    fence: Fence
    retriever: Retriever

    @classmethod
    def build(cls, options: UpdaterOptions, wiring: Wiring) -> Updater:
        """Raises ConfigurationError for a pack that lacks a prompt or a fence."""
        fence = Fence.of(load_prompt(wiring.pack, "answer"))
        return cls(wiring.alias(options), wiring.prompt("operations"), fence, Retriever(options.related, options.max_chars, FACTS))

    async def update(self, turn: str, facts: Sequence[Fact], request: AgentRequest, ctx: AgentContext) -> None:
        """Decide and commit. Called again after a failure it commits what was decided, without deciding anew."""
        decided = ctx.recorder.of_role(ROLE)
        step = decided[0] if decided else await self._decide("\n".join(fact.text for fact in facts), request, ctx)
        if not step.memory_ops:
            await self._commit(step, ctx)

    async def _decide(self, turn: str, request: AgentRequest, ctx: AgentContext) -> Step:
        related = await self.retriever.search(turn, ctx)
        messages = self.prompt.render(memories=self._numbered(related), turn=turn)
        sampling = inner(request.sampling, operations.max_tokens(self.prompt))
        return await asked(self.alias, messages, ctx, role=ROLE, sampling=sampling, retrieved=[m.ref for m in related])

    async def _commit(self, step: Step, ctx: AgentContext) -> None:
        wanted = operations.parse(step.text, self.prompt.format)
        ops, writes = await _plan(wanted, step, ctx)
        if writes:
            try:
                await ctx.store.apply(ctx.namespace, writes)
            except NotFound:  # one of the memories was deleted since it was looked up: plan again without it
                ops, writes = await _plan(wanted, step, ctx)
                if writes:
                    await ctx.store.apply(ctx.namespace, writes)
        ctx.recorder.amend(step.index, memory_ops=ops)

    def _numbered(self, memories: Sequence[Recalled]) -> str:
        lines = [f"{i} {words(self.fence.defuse(m.text))}" for i, m in enumerate(memories, start=1)]
        return "\n".join(lines) or "none"


async def _plan(wanted: Sequence[Operation], step: Step, ctx: AgentContext) -> tuple[list[MemoryOp], list[MemoryWrite]]:
    """What becomes of each operation, and the writes of those that can be applied."""
    ops: list[MemoryOp] = []
    writes: list[MemoryWrite] = []
    for position, operation in enumerate(wanted):
        write: MemoryWrite | None = None
        if operation.op == "add":
            op, write = await _add(operation, memory_id(ctx, step.index, position), step, ctx)
        elif operation.op == "noop":
            op = MemoryOp(op="noop", text=operation.text, applied=operation.well_formed, well_formed=operation.well_formed)
        else:
            op, write = await _change(operation, step, ctx)
        if write is not None and (len(writes) == MAX_OPERATIONS or _clashes(write, writes)):
            op, write = op.model_copy(update={"applied": False}), None
        ops.append(op)
        writes += [write] if write else []
    return ops, writes


async def _add(operation: Operation, new_id: str, step: Step, ctx: AgentContext) -> tuple[MemoryOp, MemoryWrite | None]:
    text, day = dated(operation.text, ctx.at)
    existing = await find_verbatim(text, ctx)
    if existing is not None and existing.id != new_id:
        return MemoryOp(op="add", id=existing.id, text=text, applied=False), None
    write = MemoryWrite(op="add", id=new_id, text=text, valid_at=day, provenance=provenance(ctx, step.index), trust="user")
    return MemoryOp(op="add", id=new_id, text=text), write


async def _change(operation: Operation, step: Step, ctx: AgentContext) -> tuple[MemoryOp, MemoryWrite | None]:
    """An update or a delete of the related memory with that number; not applied if it is gone or would stay the same."""
    number = operation.number or 0
    target = step.retrieved[number - 1].id if 1 <= number <= len(step.retrieved) else None
    record = await ctx.store.get(ctx.namespace, target) if target else None
    text, day = dated(operation.text, ctx.at)
    op = MemoryOp.model_validate({"op": operation.op, "id": target, "text": text})
    if record is None or (operation.op == "update" and _same(record, text)):
        return op.model_copy(update={"applied": False}), None
    write = MemoryWrite.model_validate(
        {
            "op": operation.op,
            "id": record.id,
            "text": text,
            "kind": record.kind,
            "metadata": record.metadata,
            "valid_at": day or record.valid_at,
            "invalid_at": record.invalid_at,
            "provenance": provenance(ctx, step.index),
            "trust": "user",
            "tags": record.tags,
            "importance": record.importance,
        }
    )
    return op, write


def _same(record: MemoryRecord, text: str) -> bool:
    return words(record.text) == words(text)


def _clashes(write: MemoryWrite, writes: Sequence[MemoryWrite]) -> bool:
    """True if the batch already writes this memory, or already adds these words."""
    return any(w.id == write.id or (write.op == w.op == "add" and words(w.text) == words(write.text)) for w in writes)
