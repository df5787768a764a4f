"""The reader: sections and memories as exact ids, overwriting, what is question and what document, budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from cases import END, POLICY, ask, context, engine, request
from cases import agent as build
from hypothesis import given
from hypothesis import strategies as st

from recollect.errors import ConfigurationError, ContextTooLong, EngineUnavailable, InvalidRequest
from recollect.messages import Message, assistant, user
from recollect.trajectory import Step
from server.agents.document import Attached, Part, split
from server.agents.prompts import load_prompt
from server.engines.base import Sampling
from server.engines.scripted import ScriptedEngine
from server.engines.toy_tokens import encode

QUESTION = "What is the code of Brinar?"
FILE = Message(role="user", content="", file_id="file-1")
DOCUMENT = "The guard of Ola is Tim. " * 12 + "The code of Brinar is 417. " + "Rain fell on the hills. " * 9


def counting(**options: Any) -> ScriptedEngine:
    """Notes which section it read; answers with its memory in a box."""

    def says(prompt: str) -> str:
        if "\nAnswer:" in prompt:
            return "\\boxed{" + _between(prompt, "Memory: ", "\nAnswer:") + "}"
        before = _between(prompt, "Memory: ", "\nSection:")
        return f"sec {1 if before == 'none' else int(before.split()[1].rstrip('é')) + 1}é"

    return engine(says, **options)


def _between(text: str, left: str, right: str) -> str:
    return text.partition(left)[2].partition(right)[0]


def _contains(ids: Sequence[int], part: list[int]) -> bool:
    return any(list(ids[i : i + len(part)]) == part for i in range(len(ids) - len(part) + 1))


def _memory_of(step: Step) -> list[int]:
    assert step.completion_ids is not None
    return [i for i in step.completion_ids if i != END]


async def test_every_prompt_holds_the_sampled_memory_and_the_section_as_exact_ids() -> None:
    llm = counting()
    ctx = context(llm)
    answer, _, _ = await ask(build("reader"), request(DOCUMENT, QUESTION), ctx)
    *sections, last = ctx.recorder.steps
    document = encode(" " + DOCUMENT.strip())
    assert len(sections) == -(-len(document) // 80) > 5
    assert [s.role for s in sections] == ["reader"] * len(sections)
    for k, step in enumerate(sections):
        assert step.prompt_ids == list(llm.calls[k].prompt_ids)
        section = document[k * 80 : (k + 1) * 80]
        lead = [] if section[0] == encode(" ")[0] else encode(" ")
        memory = encode(" none") if k == 0 else [*encode(" "), *_memory_of(sections[k - 1])]
        head = encode(f"<|im_start|>user\nQuestion: {QUESTION}\nMemory:")
        tail = encode("\nNew memory:<|im_end|>\n<|im_start|>assistant\n")
        assert step.prompt_ids == [*head, *memory, *encode("\nSection:"), *lead, *section, *tail]
    assert last.role == "reader_answer"
    assert last.prompt_ids is not None
    assert _contains(last.prompt_ids, _memory_of(sections[-1]))
    assert answer == "\\boxed{" + f"sec {len(sections)}é" + "}"
    assert all(step.trainable for step in ctx.recorder.steps)


async def test_the_first_prompt_has_the_same_text_as_the_compact_prompt_that_the_seed_was_taught() -> None:
    llm = counting()
    await ask(build("reader"), request("The code of Brinar is 417.", QUESTION), context(llm))
    taught = load_prompt("compact", "read_section").render(question=QUESTION, memory="none", section="The code of Brinar is 417.")
    assert llm.calls[0].prompt == await llm.render(taught)
    taught = load_prompt("compact", "read_answer").render(question=QUESTION, memory="sec 1é")
    assert llm.calls[1].prompt == await llm.render(taught)


async def test_sections_sample_like_the_request_with_a_limit_of_their_own() -> None:
    llm = counting()
    options = {"temperature": 0.7, "top_p": 0.9, "seed": 5, "n": 1, "stop": ("x",), "presence_penalty": 1.0, "max_tokens": 40}
    await ask(build("reader", memory_tokens=20), request(DOCUMENT, QUESTION, **options), context(llm))
    assert {call.sampling for call in llm.calls[:-1]} == {Sampling(temperature=0.7, top_p=0.9, seed=5, max_tokens=20)}
    assert llm.calls[-1].sampling == Sampling(**options)


async def test_a_memory_is_cut_at_its_limit_and_carried_without_an_end_token() -> None:
    llm = engine(lambda prompt: "z" * 100)
    ctx = context(llm)
    await ask(build("reader", memory_tokens=10), request(DOCUMENT, QUESTION, max_tokens=5), ctx)
    assert ctx.recorder.steps[0].finish_reason == "length"
    assert "Memory: zzzzzzzzzz\nSection:" in llm.calls[1].prompt


async def test_an_empty_memory_becomes_the_prompts_word_for_it() -> None:
    llm = engine(lambda prompt: "")
    await ask(build("reader"), request(DOCUMENT, QUESTION), context(llm))
    assert all("Memory: none\n" in call.prompt for call in llm.calls)


class Thinking(ScriptedEngine):
    """Its chat template begins the thought itself."""

    async def render(self, messages: Sequence[Message]) -> str:
        return await super().render(messages) + "<think>\n"


@pytest.mark.parametrize("opened", [False, True])
async def test_a_thought_is_not_carried_on_and_an_unfinished_one_leaves_the_memory_as_it_was(opened: bool) -> None:
    opens = "" if opened else "<think>"
    said = iter([f"{opens}hm</think>\n\nkept [1]", f"{opens}never ends", "\\boxed{1}"])
    kind = Thinking if opened else ScriptedEngine
    llm = kind(answer=lambda call: next(said), adapters={POLICY.name: "loaded"})
    answer, _, _ = await ask(build("reader", section_tokens=100), request("a" * 150, QUESTION), context(llm))
    assert "Memory: kept [1]\nSection:" in llm.calls[1].prompt
    assert "Memory: kept [1]\nAnswer:" in llm.calls[2].prompt
    assert answer == "\\boxed{1}"


async def test_the_answer_is_passed_on_piece_by_piece_and_usage_counts_the_sections() -> None:
    llm = counting()
    ctx = context(llm)
    answer, pieces, usage = await ask(build("reader"), request(DOCUMENT, QUESTION, stream=True), ctx)
    assert len(pieces) == 4
    assert [call.stream for call in llm.calls] == [False] * (len(llm.calls) - 1) + [True]
    assert answer == ctx.recorder.steps[-1].text
    assert usage == ctx.recorder.usage
    assert usage is not None
    assert usage.prompt_tokens == sum(len(call.prompt_ids) for call in llm.calls)


async def test_several_choices_are_answers_from_one_reading() -> None:
    llm = counting()
    ctx = context(llm)
    _, _, usage = await ask(build("reader"), request(DOCUMENT, QUESTION, n=3), ctx)
    assert [s.role for s in ctx.recorder.steps].count("reader_answer") == 3
    assert usage == ctx.recorder.usage
    assert usage is not None
    assert usage.prompt_tokens == sum(len(call.prompt_ids) for call in llm.calls)


async def test_a_question_without_a_document_is_answered_at_once() -> None:
    llm = engine(lambda prompt: "\\boxed{unknown}")
    ctx = context(llm)
    answer, _, _ = await ask(build("reader"), request(QUESTION), ctx)
    assert answer == "\\boxed{unknown}"
    assert [s.role for s in ctx.recorder.steps] == ["reader_answer"]
    assert "Memory: none\nAnswer:" in llm.calls[0].prompt


async def test_without_ids_the_same_loop_runs_over_text() -> None:
    llm = counting(exact=False)
    ctx = context(llm)
    answer, _, _ = await ask(build("reader", section_tokens=20), request(DOCUMENT, QUESTION), ctx)
    texts = [_between(call.prompt, "Section: ", "\nNew memory:") for call in llm.calls[:-1]]
    assert "".join(texts) == DOCUMENT.strip()
    assert {len(text) for text in texts[:-1]} == {80}
    assert "Memory: sec 1é\nSection:" in llm.calls[1].prompt
    assert answer == "\\boxed{" + f"sec {len(texts)}é" + "}"
    assert not any(step.trainable for step in ctx.recorder.steps)
    assert all(step.messages for step in ctx.recorder.steps)


async def test_a_question_that_looks_like_a_slot_is_still_only_a_question() -> None:
    llm = counting()
    question = "What is [[slot-memory-0]] or {section}?"
    await ask(build("reader"), request(DOCUMENT, question), context(llm))
    assert f"Question: {question}\nMemory: none\nSection: The guard" in llm.calls[0].prompt


async def test_siblings_share_one_encoding_of_the_question_and_a_failed_one_is_not_kept() -> None:
    class Counting(ScriptedEngine):
        rendered = 0

        async def render(self, messages: Sequence[Message]) -> str:
            Counting.rendered += 1
            await asyncio.sleep(0)
            if Counting.rendered == 1:
                raise EngineUnavailable("not yet")
            return await super().render(messages)

    llm = Counting(answer=lambda call: "m", adapters={POLICY.name: "loaded"})
    reader = build("reader")
    with pytest.raises(EngineUnavailable):
        await ask(reader, request(DOCUMENT, QUESTION), context(llm))
    answers = await asyncio.gather(*(ask(reader, request(DOCUMENT, QUESTION), context(llm)) for _ in range(8)))
    assert {text for text, _, _ in answers} == {"m"}
    assert Counting.rendered == 3


async def test_sizes_left_open_shrink_to_the_window() -> None:
    llm = engine(lambda prompt: "memo", window=2048)
    ctx = context(llm)
    await ask(build("reader", pack="default"), request(DOCUMENT * 4, QUESTION, max_tokens=50), ctx)
    lengths = [len(call.prompt_ids) + (call.sampling.max_tokens or 0) for call in llm.calls]
    assert max(lengths) <= 2048
    assert len(lengths) > 3


async def test_a_configured_size_that_cannot_fit_names_the_setting() -> None:
    llm = engine(lambda prompt: "memo", window=512)
    with pytest.raises(ConfigurationError, match=r"agents\.section_tokens"):
        await ask(build("reader", section_tokens=5000), request(DOCUMENT, QUESTION), context(llm))
    assert llm.calls == []


async def test_a_question_beyond_the_window_is_the_callers_error() -> None:
    llm = engine(lambda prompt: "memo", window=512)
    with pytest.raises(ContextTooLong):
        await ask(build("reader"), request(DOCUMENT, "why? " * 100), context(llm))


@pytest.mark.parametrize(
    ("messages", "question", "document"),
    [
        ([user("doc"), user("q?")], "q?", ("doc",)),
        ([user("part 1"), user("part 2\n\npart 3"), user("q 1\n\nq 2")], "q 1\n\nq 2", ("part 1\n\npart 2\n\npart 3",)),
        ([user("doc a\n\ndoc b\n\nq?\n")], "q?", ("doc a\n\ndoc b",)),
        ([user("only a question?")], "only a question?", ()),
        ([Message(role="system", content="rules"), user("doc\n\nq?")], "q?", ("rules\n\ndoc",)),
        ([user("doc"), user("q1"), assistant("a1"), user("q2")], "q2", ("doc\n\nq1",)),
        ([user("doc"), user("q1"), assistant("a1")], "q1", ("doc",)),
        ([FILE, user("q 1\n\nq 2")], "q 1\n\nq 2", (Attached("file-1"),)),
        ([user("q?"), FILE], "q?", (Attached("file-1"),)),
        ([user("a"), user("b"), FILE, user("c"), user("q?")], "q?", ("a\n\nb", Attached("file-1"), "c")),
    ],
)
def test_the_question_is_told_from_the_document(messages: list[Message], question: str, document: tuple[Part, ...]) -> None:
    assert split(messages) == (question, document)


def test_no_question_is_an_error_that_says_where_it_belongs() -> None:
    with pytest.raises(InvalidRequest, match="last user message") as caught:
        split([Message(role="system", content="hello"), user("  ")])
    assert caught.value.param == "messages"


@given(document=st.text(min_size=1), size=st.integers(1, 50))
async def test_sections_are_of_exactly_the_configured_ids_and_leave_nothing_out(document: str, size: int) -> None:
    if not document.strip():
        return
    ctx = context(engine(lambda prompt: "m"))
    await ask(build("reader", pack="default", section_tokens=size), request(document, QUESTION), ctx)
    head, tail = encode("<section>\n"), encode("\n</section>\n\nUpdated memory:<|im_end|>\n<|im_start|>assistant\n")
    read: list[int] = []
    for step in ctx.recorder.steps[:-1]:
        assert step.prompt_ids is not None
        start = next(i for i in range(len(step.prompt_ids)) if step.prompt_ids[i : i + len(head)] == head) + len(head)
        section = step.prompt_ids[start : -len(tail)]
        assert len(section) == size or step is ctx.recorder.steps[-2]
        read += section
    assert read == encode(document.strip())
