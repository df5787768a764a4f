"""Encodes a text of any length piece by piece, so that its ids are those of the text encoded whole.

A text may be cut where its tokenizer never makes one token of what is left and right of the cut. Tokenizers that first split a text
by a pattern (GPT-2, Qwen, Llama 3) part a word from what follows it; so do those of the SentencePiece kind, which write the blank
with the word after it and begin every text with one. So a cut is tried at the end of a word, and taken only if the text around it
encodes to the same ids in one go and in two, with the blank kept or, for the second kind, left out. Where no cut in a piece
passes (a text without a single end of a word), more is read; after MAX_PIECES pieces it is cut regardless, and there alone the ids
may differ from those of the whole.
"""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from itertools import islice
from typing import NamedTuple

from server.engines.base import Engine

PIECE = 32_768
"""Characters that are encoded at once."""
AROUND = 64
"""Characters on either side of a cut that are looked at."""
TRIES = 4
MAX_PIECES = 8


class Cut(NamedTuple):
    """The left part ends before `left`, the right part begins at `right`: the same place, or the one after a blank."""

    left: int
    right: int


async def encoded(texts: AsyncIterator[str], engine: Engine, lead: str = "", *, piece: int = PIECE) -> AsyncGenerator[list[int]]:
    """The ids of `lead` and all `texts` as one text, in parts of about `piece` characters; nothing if there is no text."""
    held, any_text = lead, False
    async for text in texts:
        any_text = any_text or bool(text)
        held += text
        while len(held) >= piece + AROUND and (cut := await _cut(held, engine, piece)):
            yield await engine.encode(held[: cut.left])
            held = held[cut.right :]
    if any_text:
        yield await engine.encode(held)


async def _cut(text: str, engine: Engine, piece: int) -> Cut | None:
    """Where to cut; None to read on first."""
    for place in islice(_places(text), TRIES):
        left, right = text[max(0, place - AROUND) : place], text[place : place + AROUND]
        whole, head = await engine.encode(left + right), await engine.encode(left)
        if whole == head + await engine.encode(right):
            return Cut(place, place)
        if right[0] == " " and whole == head + await engine.encode(right[1:]):
            return Cut(place, place + 1)
    return Cut(piece, piece) if len(text) >= MAX_PIECES * piece else None


def _places(text: str) -> Iterator[int]:
    """Ends of words in the text's second half, the last first; those before a blank and a word before all others."""
    places = range(len(text) - AROUND, max(len(text) // 2, 1), -1)
    yield from (i for i in places if text[i] == " " and text[i - 1].isalnum() and text[i + 1].isalnum())
    yield from (i for i in places if text[i - 1].isalnum() and not text[i].isalnum() and not _is_mark(text[i]) and not text[i].isspace())
    yield from (i for i in places if text[i - 1].isalnum() and text[i].isspace() and (text[i] != " " or not text[i + 1].isalnum()))


def _is_mark(character: str) -> bool:
    """True for what is written on the character before it."""
    return unicodedata.category(character)[0] == "M"
