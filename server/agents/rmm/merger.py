"""Whether a topic memory is added or merged into a similar one, as the policy decides (RMM, arXiv 2503.08026)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from recollect.memory import MemoryRecord
from recollect.trajectory import MemoryRef
from server.agents.asking import asked
from server.agents.base import AgentContext
from server.agents.fence import Fence
from server.agents.prompts import Prompt
from server.agents.rmm.topics import summary
from server.agents.sampling import inner
from server.agents.verbatim import words
from server.engines.base import Sampling

ROLE = "merger"
MAX_TOKENS = 1024
_ADD = re.compile(r"^\s*Add\(\s*\)", re.M)
_MERGE = re.compile(r"^\s*Merge\(\s*(\d{1,4})\s*,\s*(.*\S)\s*\)\s*$", re.M)


@dataclass(frozen=True, slots=True)
class Merge:
    """The number, from 1, of the memory that takes the topic in, and its whole new text."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class TopicMerger:
    """One call of the policy `alias` for a topic that has similar memories."""

    alias: str
    prompt: Prompt
    fence: Fence

    async def decide(self, topic: str, similar: Sequence[MemoryRecord], ctx: AgentContext) -> Merge | None:
        """What to merge the topic into; None: add it, which is also what an unreadable answer comes to, so that nothing is lost.

        Raises what the engine raises.
        """
        memories = "\n".join(f"[{i}] {words(self.fence.defuse(record.text))}" for i, record in enumerate(similar, start=1))
        messages = self.prompt.render(memories=memories, summary=words(self.fence.defuse(topic)))
        refs = [MemoryRef(id=record.id, content_hash=record.content_hash, trust=record.trust) for record in similar]
        sampling = inner(Sampling(temperature=0.0), MAX_TOKENS)
        step = await asked(self.alias, messages, ctx, role=ROLE, sampling=sampling, retrieved=refs)
        return parse(step.text, len(similar))


def parse(text: str, count: int) -> Merge | None:
    """The first action of a completion, if it is `Merge(index, text)` with an index from 1 to `count`; else None. Never raises."""
    answer = text.rpartition("</think>")[2]
    add, merge = _ADD.search(answer), _MERGE.search(answer)
    if merge is None or (add is not None and add.start() < merge.start()):
        return None
    number, merged = int(merge[1]), summary(merge[2].strip("\"'"))
    return Merge(number, merged) if merged and 1 <= number <= count else None
