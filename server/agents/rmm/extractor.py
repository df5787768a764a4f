"""Topic memories of one session and one speaker, as the policy writes them (RMM, arXiv 2503.08026, prospective reflection)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, cast

from recollect.errors import ContextTooLong
from recollect.memory import MemoryRecord
from recollect.trajectory import Step
from server.agents.asking import asked
from server.agents.base import AgentContext
from server.agents.fence import Fence
from server.agents.prompts import Prompt
from server.agents.rmm.topics import said_by, summary
from server.agents.sampling import inner
from server.agents.verbatim import words
from server.engines.base import Sampling

ROLE = "extractor"
NO_TRAIT = "NO_TRAIT"
MAX_TOKENS = 2048
MAX_TOPICS = 32
"""Of one call; what a policy that repeats itself writes beyond them is not taken."""
_OBJECT = re.compile(r"\{\s*\"")
_MAX_ATTEMPTS = 20
Speaker = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Topic:
    """A summary and the ids of the turns that it rests on, written by the recorded step `step`."""

    summary: str
    turns: tuple[str, ...]
    speaker: Speaker
    step: int


@dataclass(frozen=True, slots=True)
class TopicExtractor:
    """One call of the policy `alias` for a speaker; a session that, with its topics, does not fit the window is read in halves."""

    alias: str
    prompt: Prompt
    fence: Fence

    async def extract(self, turns: Sequence[MemoryRecord], speaker: Speaker, ctx: AgentContext) -> list[Topic] | None:
        """The topics of the turns, in the order in which they were written; None if the policy wrote what cannot be read.

        Raises ContextTooLong for a single turn that does not fit, and what the engine raises.
        """
        try:
            step = await self._called(turns, speaker, ctx)
        except ContextTooLong:
            if len(turns) == 1:
                raise
            return await self._in_halves(turns, speaker, ctx)
        if step.finish_reason == "length" and len(turns) > 1:
            return await self._in_halves(turns, speaker, ctx)
        found = parse(step.text, len(turns))
        if found is None:
            return None
        return [Topic(text, tuple(turns[number].id for number in numbers), speaker, step.index) for text, numbers in found]

    async def _in_halves(self, turns: Sequence[MemoryRecord], speaker: Speaker, ctx: AgentContext) -> list[Topic] | None:
        half = len(turns) // 2
        first, second = await self.extract(turns[:half], speaker, ctx), await self.extract(turns[half:], speaker, ctx)
        return None if first is None or second is None else first + second

    async def _called(self, turns: Sequence[MemoryRecord], speaker: Speaker, ctx: AgentContext) -> Step:
        lines = [f"{number} {said_by(turn)}: {words(self.fence.defuse(turn.text))}" for number, turn in enumerate(turns)]
        messages = self.prompt.render(speaker=speaker, turns="\n".join(lines))
        return await asked(self.alias, messages, ctx, role=ROLE, sampling=inner(Sampling(temperature=0.0), MAX_TOKENS))


def parse(text: str, count: int) -> list[tuple[str, list[int]]] | None:
    """The summaries and the places, from 0 to `count` - 1, of the turns that they refer to. Never raises.

    Empty for the word NO_TRAIT and for an empty list. None for what cannot be read; an item without a summary or without a turn that
    exists makes the whole unreadable only if no other item can be read.
    """
    answer = text.rpartition("</think>")[2].strip()
    if answer.strip("`\"'. ") == NO_TRAIT:
        return []
    items = _items(answer)
    if items is None:
        return None
    found = [item for item in (_item(item, count) for item in items[:MAX_TOPICS]) if item is not None]
    return None if items and not found else found


def _items(text: str) -> list[Any] | None:
    decoder = json.JSONDecoder()
    for start in islice(_OBJECT.finditer(text), _MAX_ATTEMPTS):
        try:
            value, _ = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        listed = value.get("extracted_memories")
        if isinstance(listed, list):
            return cast("list[Any]", listed)
    return None


def _item(item: Any, count: int) -> tuple[str, list[int]] | None:
    if not isinstance(item, dict):
        return None
    fields = cast("dict[str, Any]", item)
    said, reference = fields.get("summary"), fields.get("reference")
    if not isinstance(said, str) or not summary(said) or not isinstance(reference, list):
        return None
    numbers = [value for value in cast("list[Any]", reference) if type(value) is int and 0 <= value < count]
    return (summary(said), list(dict.fromkeys(numbers))) if numbers else None
