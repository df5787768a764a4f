"""From one turn of a conversation to the facts that it states (Memory-R1, arXiv 2508.19828, section 3.1: LLM-extract)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from recollect.memory import MAX_TEXT
from recollect.settings import AgentSettings
from recollect.trajectory import Step
from server.agents.asking import asked
from server.agents.base import AgentContext, AgentRequest
from server.agents.dates import dated
from server.agents.modules import Fact
from server.agents.prompts import Prompt
from server.agents.sampling import inner
from server.agents.verbatim import words
from server.agents.wiring import ModuleOptions, Wiring, module

ROLE = "extractor"
MAX_FACTS = 16
"""Of one turn; what a policy that repeats itself adds beyond them is left out."""
MAX_TOKENS = 512
_BULLET = re.compile(r"^(?:[-*•]|\d{1,2}[.)])\s+")


class ManagerOptions(ModuleOptions):
    """What both modules of the manager have."""

    @classmethod
    def defaults(cls, settings: AgentSettings) -> dict[str, object]:
        return {"policy": settings.manager_policy}


@module("extractor", "facts")
@dataclass(frozen=True, slots=True)
class FactExtractor:
    """One call of the policy a turn, one fact a line; the turn alone is read."""

    Options: ClassVar = ManagerOptions

    alias: str
    prompt: Prompt

    @classmethod
    def build(cls, options: ManagerOptions, wiring: Wiring) -> FactExtractor:
        return cls(wiring.alias(options), wiring.prompt("extract"))

    async def extract(self, turn: str, request: AgentRequest, ctx: AgentContext) -> list[Fact]:
        """The facts in the order in which they are stated, each dated by the single day that it names, else by when it was said.

        Called again with the same turn, those of the first call.

        Raises what the engine raises: a failed extraction is not an empty one.
        """
        messages = self.prompt.render(turn=turn)
        before = next((step for step in ctx.recorder.of_role(ROLE) if step.messages == messages), None)
        step = before or await self._call(turn, request, ctx)
        return [Fact(text=text, valid_at=day or ctx.at) for text, day in (dated(fact, ctx.at) for fact in facts_in(step.text))]

    async def _call(self, turn: str, request: AgentRequest, ctx: AgentContext) -> Step:
        messages = self.prompt.render(turn=turn)
        return await asked(self.alias, messages, ctx, role=ROLE, sampling=inner(request.sampling, MAX_TOKENS))


def facts_in(text: str) -> list[str]:
    """The facts of a completion, one a line, each once, at most MAX_FACTS; `none` is no fact. What was thought is passed over."""
    said = text.encode(errors="replace").decode().rpartition("</think>")[2]
    lines = [words(_BULLET.sub("", line.strip())) for line in said.splitlines()]
    found = [line for line in lines if line and len(line) <= MAX_TEXT and line.lower().rstrip(".") != "none"]
    return list(dict.fromkeys(found))[:MAX_FACTS]
