"""Whether a text is remembered already, word for word."""

from __future__ import annotations

from recollect.memory import MemoryRecord
from server.agents.base import AgentContext
from server.agents.retriever import QUERY_CHARS

CANDIDATES = 10
LATEST = 100


def words(text: str) -> str:
    """The text with its white space made even: what counts when two texts are compared word for word."""
    return " ".join(text.split())


async def find_verbatim(text: str, ctx: AgentContext) -> MemoryRecord | None:
    """A current memory of the same words, if there is one among the closest to `text`.

    Where nothing in `text` can be searched for (an emoji, stop words alone), it is looked for among the latest memories.
    """
    hits = await ctx.store.search(ctx.namespace, text[-QUERY_CHARS:], limit=CANDIDATES)
    records = [hit.record for hit in hits] or list(await ctx.store.list(ctx.namespace, limit=LATEST))
    return next((record for record in records if words(record.text) == words(text)), None)
