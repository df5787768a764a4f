"""The memory manager (Memory-R1, arXiv 2508.19828, section 3.1): for each fact of a turn the top-k memories, then one operation.

Decisions are made in order, each on the memory that those before it leave (algorithm 1); the turn is one commit. The engine
holds what the policy writes to a schema where it can and the prompt's format is JSON, except in training: what was decoded so
has no log-probabilities of the policy's own (`Sampling.schema`), and an error of form that cannot happen cannot be unlearnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from pydantic import Field

from recollect.errors import ConfigurationError, NotFound
from recollect.settings import AgentSettings
from recollect.trajectory import Step
from server.agents.base import AgentContext, AgentRequest
from server.agents.fence import Fence
from server.agents.memory_ids import is_own, memory_id
from server.agents.memory_r1 import decision
from server.agents.memory_r1.banks import Spoken, TwoBanks
from server.agents.memory_r1.batch import Stated, TurnBatch
from server.agents.memory_r1.facts import ManagerOptions
from server.agents.modules import Extractor
from server.agents.prompts import Prompt, load_prompt
from server.agents.retriever import Recalled
from server.agents.sampling import inner
from server.agents.verbatim import words
from server.agents.wiring import Wiring, module
from server.engines.base import Sampling

ROLE = "manager"


class BankOptions(ManagerOptions):
    """How many memories of a speaker the policy is shown of a fact, and how long they may be together."""

    related: int = Field(ge=1, le=20)
    max_chars: int = Field(ge=1)

    @classmethod
    def defaults(cls, settings: AgentSettings) -> dict[str, object]:
        return {"policy": settings.manager_policy, "related": settings.related, "max_chars": settings.memory_chars}


@module("updater", "manager")
@dataclass(frozen=True, slots=True)
class Manager:
    """One call of the policy a fact, one commit a turn. `banks` finds what a fact may change, in its speaker's bank."""

    Options: ClassVar = BankOptions

    alias: str
    prompt: Prompt
    fence: Fence
    extractor: Extractor
    banks: TwoBanks

    @classmethod
    def build(cls, options: BankOptions, wiring: Wiring) -> Manager:
        """Raises ConfigurationError without an extractor, or for a pack that lacks a prompt or a fence."""
        if "extractor" not in wiring.modules:
            raise ConfigurationError("the updater 'manager' needs a module 'extractor'", param="modules.extractor")
        fence, banks = Fence.of(load_prompt(wiring.pack, "distill")), TwoBanks.of_facts(options.related, options.max_chars)
        return cls(wiring.alias(options), wiring.prompt("manage"), fence, wiring.modules["extractor"], banks)

    async def update_all(self, turns: Sequence[Spoken], request: AgentRequest, ctx: AgentContext) -> None:
        """Remember the turns in one commit: all that was decided or nothing.

        Called again after a failure it commits what was decided, without deciding anew, and what was committed not again.
        Raises what the engine and the store raise.
        """
        begun = ctx.recorder.of_role(ROLE)
        stated = [Stated(fact, by) for by in turns for fact in await self.extractor.extract(by.text, request, ctx)]
        if begun and len(begun) == len(stated) and all(step.memory_ops for step in begun):
            return
        committed = await _committed(begun, ctx)
        batch = await self._decided(stated, request, ctx, before=committed)
        if batch.writes and committed is None:
            try:
                await ctx.store.apply(ctx.namespace, batch.writes)
            except NotFound:  # one of the memories was deleted since it was looked up: go through the decisions again without it
                batch = await self._decided(stated, request, ctx)
                if batch.writes:
                    await ctx.store.apply(ctx.namespace, batch.writes)
        for index, ops in batch.ops.items():
            ctx.recorder.amend(index, memory_ops=ops)

    async def _decided(self, stated: Sequence[Stated], request: AgentRequest, ctx: AgentContext, before: int | None = None) -> TurnBatch:
        """A decision for each fact, those that were recorded as they were; on the memory as it is, or as it was before a commit."""
        fork = await ctx.store.fork(ctx.namespace, as_of=None if before is None else before - 1)
        batch = TurnBatch(replace(ctx, store=fork))
        recorded = ctx.recorder.of_role(ROLE)
        for number, one in enumerate(stated):
            step = recorded[number] if number < len(recorded) else await self._decide(one, request, batch.ctx)
            await batch.take(one, step, decision.parse(step.text, self.prompt.format, one.fact.text))
        return batch

    async def _decide(self, stated: Stated, request: AgentRequest, ctx: AgentContext) -> Step:
        related = await self.banks.bank(second=stated.by.second).search(stated.fact.text, ctx)
        messages = self.prompt.render(memories=self._numbered(related), fact=stated.fact.text)
        policy, sampling = ctx.policies[self.alias], self._sampling(request, ctx, len(related))
        chunks = ctx.engine.chat(messages, policy=policy, sampling=sampling, salt=ctx.salt)
        retrieved = [m.ref for m in related]
        async for _ in ctx.recorder.call(
            chunks, role=ROLE, policy=policy, alias=self.alias, sampling=sampling, messages=messages, retrieved=retrieved
        ):
            pass
        return ctx.recorder.of_role(ROLE)[-1]

    def _sampling(self, request: AgentRequest, ctx: AgentContext, num_related: int) -> Sampling:
        sampling = inner(request.sampling, decision.MAX_TOKENS.get(self.prompt.format, decision.MAX_TOKENS["lines"]))
        if self.prompt.format != "json" or not (ctx.guided and ctx.engine.guided):
            return sampling
        return replace(sampling, schema=decision.schema(num_related))

    def _numbered(self, memories: Sequence[Recalled]) -> str:
        return "\n".join(f"{i} {words(self.fence.defuse(m.text))}" for i, m in enumerate(memories, start=1)) or "none"


async def _committed(steps: Sequence[Step], ctx: AgentContext) -> int | None:
    """The `seq` of this turn's commit, found by what it wrote: a commit whose acknowledgement was lost is not made again.

    A commit that only deleted leaves nothing to find; made again it deletes nothing more.
    """
    for step in steps:
        for identity in (memory_id(ctx, step.index, 0), *(ref.id for ref in step.retrieved)):
            record = await ctx.store.get(ctx.namespace, identity)
            if record is not None and is_own(record, ctx):
                return record.seq_from
    return None
