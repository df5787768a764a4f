"""A text that is encoded piece by piece has the ids that it has when it is encoded whole, for every kind of tokenizer."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers_of import CORPUS, KINDS, Kind, Tokenized

from server.agents.piecewise import AROUND, encoded
from server.agents.sections import centred, sections
from server.engines.base import Engine
from server.engines.scripted import ScriptedEngine

WORDS = [
    *("The", "code", "of", "Brinar", "is", "417", "don't", "he'll", "1,024", "ok..."),
    *("東京都の天気は晴れです。", "Grüße", "e\u0301te\u0301", "naïve\u0301", "<|im_end|>", "\U0001f600\u200d\U0001f600", "क्षि"),
]
BETWEEN = [*[" "] * 12, "\n", "\n\n", "  ", ". ", ".\n", ", ", "\t", " \n ", "—", ""]


def _text(seed: int) -> str:
    """Drawn by a seed: lists of hundreds of words take hypothesis too long."""
    chance = random.Random(seed)
    return "".join(chance.choice(WORDS) + chance.choice(BETWEEN) for _ in range(chance.randint(80, 400)))


async def _streamed(text: str, sizes: Sequence[int]) -> AsyncIterator[str]:
    """The text in pieces of these sizes, over and over."""
    start = number = 0
    while start < len(text):
        yield text[start : start + sizes[number % len(sizes)]]
        start += sizes[number % len(sizes)]
        number += 1


async def _parts(text: str, engine: Engine, *, sizes: Sequence[int] = (50,), lead: str = "", piece: int = 100) -> list[list[int]]:
    return [part async for part in encoded(_streamed(text, sizes), engine, lead, piece=piece)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(text=st.integers(0, 2**32).map(_text), sizes=st.lists(st.integers(1, 300), min_size=1, max_size=3), lead=st.sampled_from(["", " "]))
async def test_the_ids_are_those_of_the_whole_text(kind: Kind, text: str, sizes: list[int], lead: str) -> None:
    engine = Tokenized(kind)
    parts = await _parts(text, engine, sizes=sizes, lead=lead)
    assert [i for part in parts for i in part] == await engine.encode(lead + text)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_long_text_is_encoded_in_many_small_parts(kind: Kind) -> None:
    engine = Tokenized(kind)
    text = " ".join(CORPUS)
    parts = await _parts(text, engine, piece=300)
    assert [i for part in parts for i in part] == await engine.encode(text)
    assert len(parts) > len(text) / 600
    texts = [len(await engine.decode(part)) for part in parts]
    assert max(texts) <= 300 + 50 + AROUND


async def test_a_text_without_a_place_to_cut_is_cut_at_the_limit_and_stays_the_same_text() -> None:
    engine = Tokenized("qwen")
    text = "天" * 5_000
    parts = await _parts(text, engine)
    assert "".join([await engine.decode(part) for part in parts]) == text
    assert max(map(len, parts)) <= 2 * 900


async def test_no_text_has_no_ids_whatever_the_lead() -> None:
    assert await _parts("", ScriptedEngine(), lead=" ") == []


class Counting(ScriptedEngine):
    longest = 0

    async def encode(self, text: str) -> list[int]:
        Counting.longest = max(Counting.longest, len(text))
        return await super().encode(text)


async def test_nothing_longer_than_a_piece_is_given_to_the_engine() -> None:
    await _parts("a few words and no more. " * 4_000, Counting(), sizes=(1_000,), piece=2_000)
    assert Counting.longest <= 2_000 + 1_000 + AROUND


@given(parts=st.lists(st.lists(st.integers(0, 9), max_size=30), max_size=12), size=st.integers(1, 20))
async def test_sections_are_all_of_one_size_but_the_last_and_hold_everything(parts: list[list[int]], size: int) -> None:
    async def given_parts() -> AsyncIterator[list[int]]:
        for part in parts:
            yield part

    found = [section async for section in sections(given_parts(), size)]
    assert [i for section in found for i in section] == [i for part in parts for i in part]
    assert all(len(section) == size for section in found[:-1])
    assert all(found)


@given(parts=st.lists(st.text(max_size=30), max_size=12), limit=st.integers(1, 100))
async def test_the_middle_is_left_out_as_in_memagent(parts: list[str], limit: int) -> None:
    async def given_parts() -> AsyncIterator[str]:
        for part in parts:
            yield part

    whole = "".join(parts)
    found = "".join([part async for part in centred(given_parts(), limit)])
    assert found == (whole if len(whole) <= limit else whole[: limit // 2] + whole[-(limit - limit // 2) :])
