"""A document of any length is read from the disk, in the sections of the document encoded whole, in memory that does not grow with it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from cases import HOME, ask, context, request
from cases import agent as build
from tokenizers_of import KINDS, Kind, Tokenized

from benchmarks.reading import LINE, SECTION, read
from recollect.messages import Message
from server.service.files import Files


async def _peak(folder: Path, num_tokens: int) -> int:
    """The most bytes of Python objects that were held while so many tokens were read."""
    tracemalloc.start()
    try:
        _, _, num_calls = await read(folder, num_tokens, call_s=0.0, recorded=50_000)
        assert num_calls == -(-num_tokens // SECTION) + 1
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_eight_times_the_document_takes_no_more_memory(tmp_path: Path) -> None:
    await _peak(tmp_path / "warm", 20_000)
    short, long = await _peak(tmp_path / "short", 100_000), await _peak(tmp_path / "long", 800_000)
    # What does grow: the memories' texts, one for each section, as the log keeps them (1 kB for 5 kB here).
    assert long - short < 800_000
    assert long < 16_000_000


@pytest.mark.parametrize("kind", KINDS)
async def test_the_sections_of_a_file_are_those_of_the_file_encoded_whole(tmp_path: Path, kind: Kind) -> None:
    text = "".join(LINE % (number, number % 1000) for number in range(1_200))
    files = Files(tmp_path, len(text))
    upload = files.begin(HOME)
    upload.write(text.encode())
    llm = Tokenized(kind)
    llm.window = None
    asked = request(Message(role="user", content="", file_id=upload.finish("a.txt", "user_data").id), "Who guards house 17?")
    await ask(build("reader", pack="default", section_tokens=1_500), asked, replace(context(llm), files=files))
    whole = await llm.encode(text)
    *prompts, _ = llm.prompts
    assert len(prompts) == -(-len(whole) // 1_500) > 10
    for number, prompt in enumerate(prompts):
        section = whole[number * 1_500 : (number + 1) * 1_500]
        assert any(prompt[i : i + len(section)] == section for i in range(len(prompt) - len(section) + 1))
