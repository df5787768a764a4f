"""From one turn of a conversation to the facts that it states (Memory-R1, arXiv 2508.19828, section 3.1: LLM-extract)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from recollect.memory import MAX_TEXT
from recollect.trajectory import Step
from server.agents.base import AgentContext, AgentRequest
from server.agents.dates import dated
from server.agents.prompts import Prompt
from server.agents.sampling import inner
from server.agents.verbatim import words

ROLE = "extractor"
MAX_FACTS = 16
"""Of one turn; what a policy that repeats itself adds beyond them is left out."""
MAX_TOKENS = 512
_BULLET = re.compile(r"^(?:[-*•]|\d{1,2}[.)])\s+")


@dataclass(frozen=True, slots=True)
class Fact:
    """One sentence, and when it began to hold: the single day that it names, else when it was said; None where nobody knows."""

    text: str
    valid_at: datetime | None


@dataclass(frozen=True, slots=True)
class FactExtractor:
    """One call of the policy `alias` a turn; the turn alone is read."""

    alias: str
    prompt: Prompt

    async def extract(self, turn: str, request: AgentRequest, ctx: AgentContext) -> list[Fact]:
        """The facts, in the order in which they are stated; called again with the same turn, those of the first call.

        Raises what the engine raises: a failed extraction is not an empty one.
        """
        messages = self.prompt.render(turn=turn)
        before = next((step for step in ctx.recorder.of_role(ROLE) if step.messages == messages), None)
        step = before or await self._call(turn, request, ctx)
        return [Fact(text, day or ctx.at) for text, day in (dated(fact, ctx.at) for fact in facts_in(step.text))]

    async def _call(self, turn: str, request: AgentRequest, ctx: AgentContext) -> Step:
        messages = self.prompt.render(turn=turn)
        policy = ctx.policies[self.alias]
        sampling = inner(request.sampling, MAX_TOKENS)
        chunks = ctx.engine.chat(messages, policy=policy, sampling=sampling, salt=ctx.salt)
        async for _ in ctx.recorder.call(chunks, role=ROLE, policy=policy, alias=self.alias, sampling=sampling, messages=messages):
            pass
        return ctx.recorder.of_role(ROLE)[-1]


def facts_in(text: str) -> list[str]:
    """The facts of a completion, one a line, each once, at most MAX_FACTS; `none` is no fact. What was thought is passed over."""
    said = text.encode(errors="replace").decode().rpartition("</think>")[2]
    lines = [words(_BULLET.sub("", line.strip())) for line in said.splitlines()]
    found = [line for line in lines if line and len(line) <= MAX_TEXT and line.lower().rstrip(".") != "none"]
    return list(dict.fromkeys(found))[:MAX_FACTS]
