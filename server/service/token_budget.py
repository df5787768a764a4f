"""How many hits of a search fit into a number of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from recollect.memory import SearchHit

BYTES_PER_TOKEN = 4


def tokens_of(text: str) -> int:
    """An estimate, with no model's tokenizer: one token per four bytes of UTF-8, rounded up."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def fitting(hits: Sequence[SearchHit], max_tokens: int) -> Sequence[SearchHit]:
    """The hits, best first, while their texts, contexts included, have at most `max_tokens` tokens together.

    `tokens_of` estimates them. The best hit is always given, however long it is.
    """
    left = max_tokens
    for number, hit in enumerate(hits):
        left -= _tokens(hit)
        if left < 0:
            return hits[: max(1, number)]
    return hits


def _tokens(hit: SearchHit) -> int:
    around = (*hit.context.before, *hit.context.after) if hit.context else ()
    return sum(tokens_of(record.text) for record in (hit.record, *around))
