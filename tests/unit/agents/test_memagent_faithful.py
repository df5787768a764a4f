"""MemAgent (arXiv 2507.02259) as its paper has it, asserted on recorded prompts and token ids.

Fresh chat for each chunk, prompts joined from ids, overwriting, a boxed answer from the memory alone, centre truncation.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from cases import agent as build
from cases import ask, context, engine, request
from tokenizers_of import Tokenized

from recollect.settings import AgentSettings
from recollect.trajectory import Step
from server.agents.budget import Budget
from server.agents.prompts import load_prompt
from server.engines import toy_tokens

QUESTION = "What is the code of Brinar?"
SECTION = 90
DOCUMENT = "".join(f"Line {number:03d} says that the price of item {number:03d} is {number * 7:04d}.\n" for number in range(40))


async def read(document: str = DOCUMENT, *, pack: str = "default", **settings: int) -> list[Step]:
    """The steps of one reading, whose memories are `memory 1.`, `memory 2.` and so on."""
    numbers = count(1)
    ctx = context(engine(lambda prompt: "\\boxed{7}" if "Your answer:" in prompt else f"memory {next(numbers)}."))
    await ask(build("reader", pack=pack, section_tokens=SECTION, **settings), request(document, QUESTION), ctx)
    return ctx.recorder.steps


def text_of(step: Step) -> str:
    assert step.prompt_ids is not None
    return toy_tokens.decode(step.prompt_ids)


def section_of(step: Step) -> str:
    return text_of(step).partition("<section>\n")[2].partition("\n</section>")[0]


async def test_each_chunk_is_a_fresh_chat_of_question_memory_and_this_chunk_alone() -> None:
    *steps, _ = await read()
    prompt = load_prompt("default", "read_section")
    chunks = [DOCUMENT.strip()[start : start + SECTION] for start in range(0, len(DOCUMENT.strip()), SECTION)]
    assert len(steps) == len(chunks) > 10
    for number, (step, chunk) in enumerate(zip(steps, chunks, strict=True)):
        memory = f"memory {number}." if number else "No previous memory."
        assert text_of(step) == toy_tokens.render(prompt.render(question=QUESTION, memory=memory, section=chunk))
        assert text_of(step).count("<|im_start|>") == 2


async def test_the_memory_is_overwritten() -> None:
    steps = await read()
    for number, step in enumerate(steps[1:], start=1):
        assert f"memory {number}." in text_of(step)
        assert f"memory {number - 1}." not in text_of(step)


async def test_the_answer_is_boxed_and_given_from_question_and_memory_alone() -> None:
    *steps, last = await read()
    assert last.role == "reader_answer"
    prompt = load_prompt("default", "read_answer")
    assert text_of(last) == toy_tokens.render(prompt.render(question=QUESTION, memory=f"memory {len(steps)}."))
    assert "\\boxed{}" in text_of(last)
    assert prompt.format == "boxed"
    assert last.text == "\\boxed{7}"


@pytest.mark.parametrize("pack", ["default", "compact"])
async def test_the_prompt_holds_exactly_the_sampled_ids_of_the_memory_before(pack: str) -> None:
    """What is sampled here is no encoding of its text: whoever decodes a memory and encodes it again is found out."""
    llm = Tokenized("qwen")
    ctx = context(llm)
    await ask(build("reader", pack=pack, section_tokens=SECTION), request(DOCUMENT, QUESTION), ctx)
    before, after = ("<memory>\n", "\n</memory>") if pack == "default" else ("Memory: ", "\n")
    canonical = await llm.encode(await llm.decode(llm.sampled[0]))
    assert canonical != llm.sampled[0]
    assert len(ctx.recorder.steps) > 5
    for sampled, step in zip(llm.sampled, ctx.recorder.steps[1:], strict=False):
        assert step.prompt_ids is not None
        places = [i for i in range(len(step.prompt_ids)) if step.prompt_ids[i : i + len(sampled)] == sampled]
        assert len(places) == 1
        assert (await llm.decode(step.prompt_ids[: places[0]])).endswith(before)
        assert (await llm.decode(step.prompt_ids[places[0] + len(sampled) :])).startswith(after)


async def test_the_end_token_is_no_part_of_the_memory() -> None:
    first, second, *_ = await read()
    assert first.completion_ids == [*toy_tokens.encode("memory 1."), toy_tokens.END_ID]
    assert text_of(second).count("<|im_end|>") == text_of(first).count("<|im_end|>") == 1


@pytest.mark.parametrize("max_sections", [1, 3, 4, 21, 22, 99])
async def test_a_document_beyond_max_sections_loses_its_middle(max_sections: int) -> None:
    *steps, _ = await read(max_sections=max_sections)
    text, limit = DOCUMENT.strip(), max_sections * SECTION
    expected = text if len(text) <= limit else text[: limit // 2] + text[-(limit - limit // 2) :]
    assert "".join(section_of(step) for step in steps) == expected
    assert len(steps) == -(-len(expected) // SECTION) <= max_sections


async def test_nothing_is_left_out_unless_it_is_set() -> None:
    assert AgentSettings().max_sections == 0
    *steps, _ = await read()
    assert "".join(section_of(step) for step in steps) == DOCUMENT.strip()


def test_the_sizes_are_the_papers_and_fill_a_window_of_8192() -> None:
    budget = Budget.of(0, 0, "default")
    assert (budget.section, budget.memory) == (5_000, 1_024)
    assert budget.fit(1_024 + 120, 1_024, 8_192) == (5_000, 1_024)


def test_the_compact_prompts_are_those_that_the_seed_model_was_trained_on() -> None:
    folder = Path(__file__).parents[3] / "server" / "agents" / "prompts" / "compact"
    head, tail = "user: |-\n  Question: {question}\n  Memory: {memory}\n  ", "\nempty_memory: none\n"
    section = head + "Section: {section}\n  New memory:\nformat: text" + tail
    answer = head + "Answer:\nformat: boxed" + tail
    assert (folder / "read_section.yaml").read_text().partition("\n")[2] == section
    assert (folder / "read_answer.yaml").read_text().partition("\n")[2] == answer
