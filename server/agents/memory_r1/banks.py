"""The memory banks of the two speakers (Memory-R1, arXiv 2508.19828): who said a turn, and where its facts belong.

Both banks lie in one namespace, so that a turn is one commit and forgetting a user forgets both; a tag parts them. What bears
no tag is the first speaker's, memories of other agents and imports too. A reply of the assistant is the second speaker's; a user
message that begins with `Name:` is a line of a transcript: the name that a namespace meets first is its first speaker.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from recollect.memory import Filters, MemoryRecord, Scalar, Trust
from recollect.settings import AgentSettings
from server.agents.base import AgentContext
from server.agents.retriever import Recalled, Retriever
from server.agents.wiring import ModuleOptions, Wiring, module

SECOND = "second-speaker"
SPEAKER = "speaker"
FACT_TRUST: tuple[Trust, ...] = ("operator", "user", "unknown")
"""What the manager may rewrite in the first bank: what a tool or a document said does not become a fact about a speaker."""
NAMES_FROM = 200
"""Latest memories in which a name is looked for."""
_NAMED = re.compile(r"([A-Z][\w.'’-]{0,31}(?: [A-Z][\w.'’-]{0,31}){0,2}):\s+\S")


@dataclass(frozen=True, slots=True)
class Spoken:
    """One turn with its speaker: `name` where it was given, `second` for the second bank, `trust` of its facts."""

    text: str
    name: str | None = None
    second: bool = False
    trust: Trust = "user"

    @property
    def tags(self) -> tuple[str, ...]:
        return (SECOND,) if self.second else ()

    @property
    def metadata(self) -> dict[str, Scalar]:
        return {} if self.name is None else {SPEAKER: self.name}


async def said_by_user(text: str, ctx: AgentContext) -> Spoken:
    """A user message: by the name that it begins with, else by the first speaker."""
    match = _NAMED.match(text)
    if match is None:
        return Spoken(text)
    name = match[1]
    latest = await ctx.store.list(ctx.namespace, limit=NAMES_FROM)
    named = {str(record.metadata[SPEAKER]): is_second(record) for record in reversed(latest) if SPEAKER in record.metadata}
    return Spoken(text, name, named.get(name, False in named.values()))


def said_by_assistant(text: str) -> Spoken:
    """A reply."""
    return Spoken(text, second=True, trust="assistant")


def is_second(record: MemoryRecord) -> bool:
    """True for a memory of the second bank."""
    return SECOND in record.tags


def name_of(record: MemoryRecord) -> str:
    """The speaker of a memory, as it is shown."""
    return str(record.metadata.get(SPEAKER, "Assistant" if is_second(record) else "User"))


class CandidateOptions(ModuleOptions):
    """How many memories of each speaker are found, and how long those of one may be together."""

    limit: int = Field(ge=1, le=100)
    max_chars: int = Field(ge=1)

    @classmethod
    def defaults(cls, settings: AgentSettings) -> dict[str, object]:
        return {"limit": settings.candidates, "max_chars": settings.memory_chars}


@module("retriever", "two_banks")
@dataclass(frozen=True, slots=True)
class TwoBanks:
    """The best `limit` memories of each speaker: 30 + 30 candidates in the paper. `max_chars` holds for each bank."""

    Options: ClassVar = CandidateOptions

    first: Retriever
    second: Retriever

    @classmethod
    def build(cls, options: CandidateOptions, wiring: Wiring) -> TwoBanks:
        return cls.of(options.limit, options.max_chars)

    @classmethod
    def of(cls, limit: int, max_chars: int) -> TwoBanks:
        """What the answer agent chooses from."""
        return cls(Retriever(limit, max_chars, Filters(without_tags=(SECOND,))), Retriever(limit, max_chars, Filters(tags=(SECOND,))))

    @classmethod
    def of_facts(cls, limit: int, max_chars: int) -> TwoBanks:
        """What the manager may change: single facts, of each bank what its speaker said."""
        first = Filters(kind="semantic", trust=FACT_TRUST, without_tags=(SECOND,))
        second = Filters(kind="semantic", trust=(*FACT_TRUST, "assistant"), tags=(SECOND,))
        return cls(Retriever(limit, max_chars, first), Retriever(limit, max_chars, second))

    async def search(self, query: str, ctx: AgentContext) -> list[Recalled]:
        """The memories of the first speaker, then those of the second, each oldest first. Raises EmbedderError."""
        return [*await self.first.search(query, ctx), *await self.second.search(query, ctx)]

    def bank(self, *, second: bool) -> Retriever:
        """The search in one bank alone."""
        return self.second if second else self.first
