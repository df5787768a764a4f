"""The writes of one turn: each is seen by the decisions after it, in a private fork, and all are committed at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from recollect.memory import MemoryRecord, MemoryWrite
from recollect.trajectory import MemoryOp, Step
from server.agents.base import AgentContext
from server.agents.dates import dated
from server.agents.memory_ids import memory_id, provenance
from server.agents.memory_r1.banks import Spoken, is_second
from server.agents.memory_r1.facts import Fact
from server.agents.operations import Operation
from server.agents.verbatim import find_verbatim, words


@dataclass(frozen=True, slots=True)
class Stated:
    """A fact and the turn that stated it."""

    fact: Fact
    by: Spoken


@dataclass(slots=True)
class TurnBatch:
    """`ctx` is the request's with a fork in the store's place. `ops`: by the index of their step, what became of each operation."""

    ctx: AgentContext
    ops: dict[int, list[MemoryOp]] = field(default_factory=dict[int, list[MemoryOp]])
    _writes: dict[str, MemoryWrite] = field(default_factory=dict[str, MemoryWrite])

    @property
    def writes(self) -> list[MemoryWrite]:
        """What is to be committed: one write a memory."""
        return list(self._writes.values())

    async def take(self, stated: Stated, step: Step, wanted: list[Operation]) -> None:
        """Apply the operation that `step` chose for a fact to the fork; those after it are recorded as not applied."""
        first, *rest = wanted
        op, write = await self._planned(first, stated, step)
        if write is not None:
            await self.ctx.store.apply(self.ctx.namespace, [write])
            self._fold(write)
        self.ops[step.index] = [op, *(_unread(operation) for operation in rest)]

    async def _planned(self, wanted: Operation, stated: Stated, step: Step) -> tuple[MemoryOp, MemoryWrite | None]:
        if not wanted.well_formed:
            return _unread(wanted), None
        if wanted.op == "noop":
            return MemoryOp(op="noop"), None
        if wanted.op == "add":
            return await self._added(stated, step)
        return await self._changed(wanted, stated, step)

    async def _added(self, stated: Stated, step: Step) -> tuple[MemoryOp, MemoryWrite | None]:
        """ADD inserts the fact; one that the bank holds word for word already is not added again."""
        fact, by = stated.fact, stated.by
        existing = await find_verbatim(fact.text, self.ctx)
        if existing is not None and is_second(existing) == by.second:
            return MemoryOp(op="add", id=existing.id, text=fact.text, applied=False), None
        write = MemoryWrite(
            op="add",
            id=memory_id(self.ctx, step.index, 0),
            text=fact.text,
            valid_at=fact.valid_at,
            provenance=provenance(self.ctx, step.index),
            trust=by.trust,
            tags=by.tags,
            metadata=by.metadata,
        )
        return MemoryOp(op="add", id=write.id, text=write.text), write

    async def _changed(self, wanted: Operation, stated: Stated, step: Step) -> tuple[MemoryOp, MemoryWrite | None]:
        """UPDATE replaces the memory by what the policy merged, DELETE removes it; not applied if it is gone or stays the same."""
        number = wanted.number or 0
        target = step.retrieved[number - 1].id if 1 <= number <= len(step.retrieved) else None
        record = await self.ctx.store.get(self.ctx.namespace, target) if target else None
        text, day = dated(wanted.text, self.ctx.at)
        op = MemoryOp.model_validate({"op": wanted.op, "id": target, "text": text})
        if record is None or (wanted.op == "update" and words(record.text) == words(text)):
            return op.model_copy(update={"applied": False}), None
        if wanted.op == "delete":
            return op, MemoryWrite(op="delete", id=record.id, provenance=provenance(self.ctx, step.index))
        return op, self._merged(record, text, stated, step).model_copy(update={"valid_at": day or stated.fact.valid_at or record.valid_at})

    def _merged(self, record: MemoryRecord, text: str, stated: Stated, step: Step) -> MemoryWrite:
        return MemoryWrite(
            op="update",
            id=record.id,
            text=text,
            kind=record.kind,
            metadata=record.metadata,
            invalid_at=record.invalid_at,
            provenance=provenance(self.ctx, step.index),
            trust=stated.by.trust,
            tags=record.tags,
            importance=record.importance,
        )

    def _fold(self, write: MemoryWrite) -> None:
        """A memory that the turn itself added has no version to update or to delete before the commit."""
        before = self._writes.pop(write.id, None)
        if before is None or before.op != "add":
            self._writes[write.id] = write
        elif write.op == "update":
            self._writes[write.id] = write.model_copy(update={"op": "add"})


def _unread(operation: Operation) -> MemoryOp:
    return MemoryOp(op="noop", text=operation.text, applied=False, well_formed=False)
