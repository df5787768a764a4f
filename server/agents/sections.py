"""Cuts a stream, of token ids or of characters, into sections, and leaves out the middle of one that is too long."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

S = TypeVar("S", str, list[int])


async def sections(parts: AsyncIterator[S], size: int) -> AsyncGenerator[S]:
    """Sections of exactly `size` items, the last of what is left. Holds one part and one section at most."""
    held: S | None = None
    async for part in parts:
        held = part if held is None else held + part
        end = len(held) - len(held) % size
        for start in range(0, end, size):
            yield held[start : start + size]
        held = held[end:]
    if held:
        yield held


async def centred(parts: AsyncIterator[S], limit: int) -> AsyncGenerator[S]:
    """The first and the last half of `limit` items; what stood between them is left out (MemAgent, arXiv 2507.02259, in training).

    A stream of at most `limit` items passes whole.
    """
    head = limit // 2
    tail: S | None = None
    async for part in parts:
        if head:
            yield part[:head]
            part, head = part[head:], max(0, head - len(part))
        tail = part if tail is None else tail + part
        tail = tail[max(0, len(tail) - (limit - limit // 2)) :]
    if tail:
        yield tail
