"""Topic memories: a summary, with references to the raw turns it was made of (RMM, arXiv 2503.08026, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from recollect.memory import MAX_TEXT, Filters, MemoryRecord, MemoryWrite, Scalar
from server.agents.base import AgentContext
from server.agents.retriever import Recalled

TAG = "topic"
TURNS = "turns"
"""The key of the metadata under which the ids of the raw turns stand, with blanks between."""
MAX_TURNS = 50
"""Of one memory; of more, the latest stay."""
OF_TOPICS = Filters(tags=(TAG,))


def turns_of(record: MemoryRecord | MemoryWrite) -> tuple[str, ...]:
    """The ids of the raw turns that a topic memory refers to; none for another memory."""
    return tuple(str(record.metadata.get(TURNS, "")).split()) if TAG in record.tags else ()


def referring(turns: Iterable[str]) -> dict[str, Scalar]:
    """The metadata of a topic memory made of these turns, each once."""
    return {TURNS: " ".join(list(dict.fromkeys(turns))[-MAX_TURNS:])}


def summary(text: str) -> str:
    """A summary as it can be stored: not longer than a memory, without half of a surrogate pair."""
    return text.strip()[:MAX_TEXT].encode(errors="replace").decode()


def without_covered(candidates: Sequence[Recalled]) -> list[Recalled]:
    """The candidates without raw turns that a topic memory among them shows already."""
    covered = {turn for m in candidates for turn in turns_of(m.record)}
    return [m for m in candidates if m.record.id not in covered]


async def with_turns(memories: Sequence[Recalled], ctx: AgentContext, max_chars: int) -> list[Recalled]:
    """The memories as they are shown: summary, then the raw turns, each memory within its share of `max_chars`.

    A turn that does not fit its memory's share is left out, and so are those after it; one that is gone is passed over.
    """
    share = max_chars // max(1, len(memories))
    shown: list[Recalled] = []
    for memory in memories:
        text = memory.text[:share]
        for turn in turns_of(memory.record):
            record = await ctx.store.get(ctx.namespace, turn)
            if record is None:
                continue
            line = f"\n- {said_by(record)}: {record.text}"
            if len(text) + len(line) > share:
                break
            text += line
        shown.append(replace(memory, text=text))
    return shown


def said_by(turn: MemoryRecord) -> str:
    """Who said a raw turn."""
    return "assistant" if turn.trust == "assistant" else "user"
