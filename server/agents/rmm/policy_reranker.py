"""The language model as reranker, as MemFactory has it (arXiv 2603.29493, `rerank_retriever`): think, then a JSON list of ids.

Its call is recorded with its tokens, so that GRPO can train it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, cast

from recollect.errors import ContextTooLong
from server.agents.asking import asked
from server.agents.base import AgentContext
from server.agents.fence import Fence
from server.agents.prompts import Prompt, load_prompt
from server.agents.retriever import Recalled, in_order
from server.agents.rmm.reranker import ROLE, RerankerOptions
from server.agents.sampling import inner
from server.agents.verbatim import words
from server.agents.wiring import Wiring, module
from server.engines.base import Sampling

MAX_CANDIDATES = 30
MAX_CHOSEN = 8
MAX_TOKENS = 1024
_LISTS = re.compile(r"\[[^\[\]]*\]")
_MAX_LISTS = 100


@module("reranker", "policy")
@dataclass(frozen=True, slots=True)
class PolicyReranker:
    """One call of the policy, which sees up to 30 candidates and names up to `limit` (8 at most)."""

    alias: str
    prompt: Prompt
    fence: Fence
    limit: int = MAX_CHOSEN

    Options: ClassVar = RerankerOptions

    @classmethod
    def build(cls, options: RerankerOptions, wiring: Wiring) -> PolicyReranker:
        """Raises ConfigurationError for a pack that lacks a prompt, or its fence."""
        return cls(wiring.alias(options), wiring.prompt("rmm_rerank"), Fence.of(load_prompt(wiring.pack, "rmm_answer")), options.limit)

    async def rerank(
        self, query: str, candidates: Sequence[Recalled], ctx: AgentContext, *, sampling: Sampling = Sampling()
    ) -> list[Recalled]:
        """The chosen, oldest first; of a choice that cannot be read, the best by the search's score. Raises what the engine raises.

        The candidates are recorded in the order in which the prompt numbers them, the chosen as cited by this step. Where they do
        not fit into the window, the lower-scored half is given up, in the end all: none is chosen beside a question that fills it.
        """
        limit, best = min(self.limit, MAX_CHOSEN), sorted(candidates, key=lambda m: m.score, reverse=True)[:MAX_CANDIDATES]
        while best:
            try:
                return await self._chosen(query, in_order(best), limit, ctx, inner(sampling, MAX_TOKENS))
            except ContextTooLong:
                best = best[: len(best) // 2]
        return []

    async def _chosen(self, query: str, shown: Sequence[Recalled], limit: int, ctx: AgentContext, sampling: Sampling) -> list[Recalled]:
        memories = "\n".join(f"[{i}] {words(self.fence.defuse(m.text))}" for i, m in enumerate(shown, start=1))
        messages = self.prompt.render(memories=memories, question=query, limit=str(limit))
        step = await asked(self.alias, messages, ctx, role=ROLE, sampling=sampling, retrieved=[m.ref for m in shown])
        numbers = chosen_ids(step.text, len(shown), limit)
        if numbers is None:
            return in_order(sorted(shown, key=lambda m: m.score, reverse=True)[:limit])
        chosen = [shown[number - 1] for number in numbers]
        ctx.recorder.amend(step.index, cited=[m.record.id for m in chosen])
        return in_order(chosen)


def chosen_ids(text: str, count: int, limit: int = MAX_CHOSEN) -> list[int] | None:
    """The last JSON list of ids after the thought: 1 to `limit` different numbers from 1 to `count`. Never raises.

    None if there is none, and if the thought never ended: what cannot be read is no choice.
    """
    answer = text.rpartition("</think>")[2]
    if "<think>" in answer:
        return None
    for match in islice(reversed(_LISTS.findall(answer)), _MAX_LISTS):
        try:
            found = json.loads(match)
        except (ValueError, RecursionError):
            continue
        numbers = [value for value in cast("list[Any]", found) if type(value) is int]
        valid = len(numbers) == len(found) == len(set(numbers)) and all(1 <= number <= count for number in numbers)
        return numbers if valid and 1 <= len(numbers) <= limit else None
    return None
