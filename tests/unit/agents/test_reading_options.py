"""What may be chosen for the reader: the section before the memory, recall of its own memories, reading without the question."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cases import agent as build
from cases import ask, context, engine, request
from hypothesis import given
from hypothesis import strategies as st

from recollect.errors import ConfigurationError
from recollect.trajectory import Step
from server.agents.snapshots import Snapshots, ids_before, said
from server.engines import toy_tokens
from server.engines.scripted import ScriptedEngine

QUESTION = "What is the code of Brinar?"
DOCUMENT = "".join(f"Part {number}: rain fell on the hills of Ola. " for number in range(12))
PACKS = pytest.mark.parametrize("pack", ["compact", "default"])


async def read(says: Callable[[str], str], *, reading: str, pack: str = "default", exact: bool = True) -> list[Step]:
    ctx = context(engine(says, exact=exact))
    await ask(
        build("reader", pack=pack, section_tokens=60 if exact else 15, memory_tokens=100, reading=reading), request(DOCUMENT, QUESTION), ctx
    )
    return ctx.recorder.steps


def text_of(step: Step) -> str:
    return toy_tokens.decode(step.prompt_ids) if step.prompt_ids is not None else step.messages[-1].content


@PACKS
async def test_siblings_share_the_prompt_up_to_the_end_of_the_section(pack: str) -> None:
    one = await read(lambda prompt: "the memory of one", reading="section_first", pack=pack)
    other = await read(lambda prompt: "another's memory", reading="section_first", pack=pack)
    plain = [await read(lambda prompt, memory=memory: memory, reading="plain", pack=pack) for memory in ("one", "another")]
    section = DOCUMENT.strip()[60:120] if pack == "default" else DOCUMENT.strip()[59:119]
    for steps, shares in (((one, other), True), (plain, False)):
        texts = [text_of(sibling[1]) for sibling in steps]
        shared = next(i for i, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1)
        assert (section in texts[0][:shared]) is shares
        assert all(section in text for text in texts)


@PACKS
async def test_without_the_question_only_the_answer_knows_it(pack: str) -> None:
    *sections, last = await read(lambda prompt: "notes", reading="question_free", pack=pack)
    assert not any("Brinar" in text_of(step) for step in sections)
    assert all("notes" in text_of(step) for step in sections[1:])
    assert QUESTION in text_of(last)
    assert "notes" in text_of(last)


def asking(prompt: str) -> str:
    """Writes down what it read; in its third step it asks for what it no longer has, and answers with what it was shown."""
    if "Part 0" in prompt:
        return "The guard Tarvo."
    if "Part 2" in prompt:
        return "The price é of Mira is 12."
    if "Part 4" in prompt:
        return "Nothing new.\n<recall>who was the guard?</recall>"
    return "later"


@PACKS
async def test_the_memory_that_is_asked_for_stands_in_the_next_prompt_and_only_there(pack: str) -> None:
    steps = await read(asking, reading="recall", pack=pack)
    asked = next(i for i, step in enumerate(steps) if "<recall>who" in step.text)
    shown = [i for i, step in enumerate(steps) if "Tarvo" in text_of(step) and i > 1]
    assert shown == [asked + 1]
    assert "Nothing new.\n" in text_of(steps[asked + 1])
    assert "who was the guard" not in text_of(steps[asked + 1])
    assert steps[0].completion_ids is not None
    ids, shown_ids = steps[0].completion_ids[:-1], steps[asked + 1].prompt_ids or []
    assert any(shown_ids[i : i + len(ids)] == ids for i in range(len(shown_ids)))


async def test_without_ids_recall_works_on_text() -> None:
    steps = await read(asking, reading="recall", exact=False)
    asked = next(i for i, step in enumerate(steps) if "<recall>who" in step.text)
    assert [i for i, step in enumerate(steps) if "Tarvo" in text_of(step) and i > 1] == [asked + 1]


async def test_a_tag_without_a_match_shows_nothing_and_is_no_part_of_the_memory() -> None:
    *sections, last = await read(lambda prompt: "kept <recall>zebra", reading="recall")
    assert all("kept" in text_of(step) and "zebra" not in text_of(step) for step in sections[1:])
    assert all("<recalled_memory>\nNo previous memory.\n" in text_of(step) for step in sections)
    assert "zebra" not in text_of(last)


async def test_a_recalled_memory_has_its_place_in_the_budget() -> None:
    llm = engine(lambda prompt: "x" * 500 + "<recall>x</recall>", window=4096)
    await ask(build("reader", pack="default", reading="recall"), request(DOCUMENT * 20, QUESTION, max_tokens=50), context(llm))
    assert max(len(call.prompt_ids) + (call.sampling.max_tokens or 0) for call in llm.calls) <= 4096
    llm = engine(lambda prompt: "x", window=1024)
    with pytest.raises(ConfigurationError, match="2 read, one written"):
        await ask(build("reader", reading="recall", section_tokens=900), request(DOCUMENT, QUESTION), context(llm))


@pytest.mark.parametrize(
    ("text", "memory", "query"),
    [
        ("a memory", "a memory", None),
        ("a memory\n<recall>the guard</recall>", "a memory", "the guard"),
        ("a memory <recall> </recall> more", "a memory", None),
        ("a memory <recall>never closed", "a memory", None),
        ("<recall>the guard</recall>", "", "the guard"),
    ],
)
def test_a_completion_is_parted_at_its_tag(text: str, memory: str, query: str | None) -> None:
    assert said(text) == (memory, query)


def test_the_memory_that_matches_best_is_found_of_equals_the_latest() -> None:
    kept: Snapshots[int] = Snapshots()
    assert kept.best("guard") is None
    for number, text in enumerate(
        ["the guard Tarvo of Ola", "rain on the hills of Ola", "a guard and rain, the hills", "rain on the hills of Ola"]
    ):
        kept.add(number, text)
    assert kept.best("Who is Tarvo, the guard?") == 0
    assert kept.best("rain in Ola") == 3
    assert kept.best("guards of hills") == 2
    assert kept.best("zebra, and of the") is None


@given(text=st.text(), length=st.integers(0, 40))
async def test_a_cut_memory_is_the_longest_beginning_of_its_ids_that_fits(text: str, length: int) -> None:
    ids = toy_tokens.encode(text)
    found = await ids_before(ids, length, ScriptedEngine())
    assert found == ids[: len(found)]
    assert len(toy_tokens.decode(found)) <= length
    assert len(found) == len(ids) or len(toy_tokens.decode(ids[: len(found) + 1])) > length
