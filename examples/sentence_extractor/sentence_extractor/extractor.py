"""An extractor: the policy writes down what a turn states, one sentence a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from server.agents.base import AgentContext, AgentRequest
from server.agents.modules import Fact
from server.agents.prompts import Prompt
from server.agents.sampling import inner
from server.agents.wiring import ModuleOptions, Wiring, module
from server.engines.base import collect

ROLE = "extractor"


class SentenceOptions(ModuleOptions):
    """What YAML may set: how much the policy may write, and of how many lines facts are made."""

    max_tokens: int = 64
    most: int = 8


@module("extractor", "sentences")
@dataclass(frozen=True)
class SentenceExtractor:
    """One call of the policy; each line that it writes is a fact."""

    Options = SentenceOptions

    alias: str
    prompt: Prompt
    options: SentenceOptions

    @classmethod
    def build(cls, options: SentenceOptions, wiring: Wiring) -> SentenceExtractor:
        """`wiring.alias` notes which policy is called, `wiring.prompt` which prompt: both tell configurations apart."""
        return cls(wiring.alias(options), wiring.prompt("extract"), options)

    async def extract(self, turn: str, request: AgentRequest, ctx: AgentContext) -> Sequence[Fact]:
        """A call that goes through `ctx.recorder` is logged with its tokens, and so can be trained."""
        messages, policy = self.prompt.render(turn=turn), ctx.policies[self.alias]
        sampling = inner(request.sampling, self.options.max_tokens)
        chunks = ctx.engine.chat(messages, policy=policy, sampling=sampling, salt=ctx.salt)
        completion = (
            await collect(ctx.recorder.call(chunks, role=ROLE, policy=policy, alias=self.alias, sampling=sampling, messages=messages))
        )[0]
        lines = [line.strip() for line in completion.text.splitlines()]
        return [Fact(text=line) for line in lines if line and line.lower() != "none"][: self.options.most]
