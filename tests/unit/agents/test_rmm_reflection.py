"""Prospective reflection: topic memories with references to raw turns, added or merged, one batch, harmless to repeat."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cases import HOME, agent, context, engine
from hypothesis import given
from hypothesis import strategies as st

from recollect.errors import ContextTooLong, EngineError, EngineUnavailable
from recollect.memory import MemoryRecord, MemoryWrite, Provenance
from recollect.settings import RmmSettings
from recollect.stores import MemoryStore
from server.agents.rmm import extractor, merger
from server.agents.rmm.merger import Merge
from server.agents.rmm.topics import turns_of
from server.engines.scripted import ScriptedEngine

TURNS = ("My sister Ida lives in Oslo.", "What a day!", "Ida plays the cello.", "I work at the harbour.")


def _rmm(**settings: Any) -> Any:
    return agent("rmm", "default", rmm=RmmSettings.model_validate(settings))


async def _said(store: MemoryStore, *texts: str, session: str = "monday", trust: str = "user", prefix: str = "t") -> list[str]:
    ids = [f"{prefix}{number}" for number, _ in enumerate(texts)]
    for memory_id, text in zip(ids, texts, strict=True):
        write = {"op": "add", "id": memory_id, "text": text, "kind": "episodic", "trust": trust, "provenance": Provenance(session=session)}
        await store.apply(HOME, [MemoryWrite.model_validate(write)])
    return ids


def _extracted(*items: tuple[str, list[int]]) -> str:
    return json.dumps({"extracted_memories": [{"summary": summary, "reference": numbers} for summary, numbers in items]})


def _policy(extracts: Callable[[str], str], decides: Callable[[str], str] = lambda prompt: "Add()", **options: Any) -> ScriptedEngine:
    return engine(lambda prompt: extracts(prompt) if "<conversation>" in prompt else decides(prompt), **options)


async def _topics(store: MemoryStore) -> list[MemoryRecord]:
    return sorted((record for record in await store.list(HOME) if record.tags == ("topic",)), key=lambda record: record.text)


async def test_a_session_becomes_topics_with_references_in_one_commit(store: MemoryStore) -> None:
    await _said(store, *TURNS)
    await _said(store, "I like tea.", session="sunday", prefix="s")
    before = await store.seq(HOME)
    llm = _policy(lambda prompt: _extracted(("User's sister Ida is a cellist in Oslo.", [0, 2]), ("User works at the harbour.", [3])))
    ctx = context(llm, store)
    written = await _rmm().reflect("monday", ctx)
    assert await store.seq(HOME) == before + 1
    assert [(record.text, turns_of(record), record.kind, record.trust) for record in written] == [
        ("User's sister Ida is a cellist in Oslo.", ("t0", "t2"), "semantic", "user"),
        ("User works at the harbour.", ("t3",), "semantic", "user"),
    ]
    assert all(record.provenance.session == "monday" and record.provenance.trajectory_id == "t1" for record in written)
    numbered = "\n".join(f"{number} user: {text}" for number, text in enumerate(TURNS))
    assert f"<conversation>\n{numbered}\n</conversation>" in llm.calls[0].prompt
    assert "I like tea" not in llm.calls[0].prompt
    (step,) = ctx.recorder.steps
    assert (step.role, step.sampling["temperature"]) == ("extractor", 0.0)
    assert [(op.op, op.id) for op in step.memory_ops] == [("add", record.id) for record in written]


async def test_reflecting_again_writes_nothing_and_later_turns_are_read_alone(store: MemoryStore) -> None:
    await _said(store, *TURNS)
    llm = _policy(lambda prompt: _extracted(("User works at the harbour.", [len(TURNS) - 1])))
    await _rmm().reflect("monday", context(llm, store))
    seq, calls = await store.seq(HOME), len(llm.calls)
    assert await _rmm().reflect("monday", context(llm, store, trajectory_id="t2")) == []
    assert (await store.seq(HOME), len(llm.calls)) == (seq, calls)
    await _said(store, "I left the harbour.", prefix="u")
    llm = _policy(lambda prompt: _extracted(("User left the harbour.", [0])))
    (record,) = await _rmm().reflect("monday", context(llm, store, trajectory_id="t3"))
    assert turns_of(record) == ("u0",)
    assert "0 user: I left the harbour.\n</conversation>" in llm.calls[0].prompt


async def test_a_batch_that_was_committed_before_is_committed_once(store: MemoryStore) -> None:
    await _said(store, *TURNS)
    answers = _extracted(("User works at the harbour.", [3]))
    fork = await store.fork(HOME)  # as another process that reflects on the same session at the same time
    (record,) = await _rmm().reflect("monday", context(_policy(lambda prompt: answers), store))
    (again,) = await _rmm().reflect("monday", context(_policy(lambda prompt: answers), fork, trajectory_id="t2"))
    assert record.id == again.id
    seq = await store.seq(HOME)
    await store.apply(HOME, [MemoryWrite(op="add", id=again.id, text=again.text)])
    assert await store.seq(HOME) == seq


async def test_a_similar_topic_is_merged_and_keeps_all_references(store: MemoryStore) -> None:
    await _said(store, *TURNS)
    await _rmm().reflect("monday", context(_policy(lambda p: _extracted(("User's sister Ida lives in Oslo.", [0, 3]))), store))
    (old,) = await _topics(store)
    await _said(store, "Ida moved to Bergen.", session="tuesday", prefix="u")
    llm = _policy(
        lambda prompt: _extracted(("User's sister Ida lives in Bergen.", [0])),
        lambda prompt: "Merge(1, User's sister Ida lives in Bergen (earlier: Oslo).)",
    )
    ctx = context(llm, store, trajectory_id="t2")
    (record,) = await _rmm().reflect("tuesday", ctx)
    assert (record.id, record.text) == (old.id, "User's sister Ida lives in Bergen (earlier: Oslo).")
    assert turns_of(record) == ("t0", "t3", "u0")
    assert "[1] User's sister Ida lives in Oslo.\n</memories>" in llm.calls[1].prompt
    assert "<new_memory>\nUser's sister Ida lives in Bergen.\n</new_memory>" in llm.calls[1].prompt
    assert [step.role for step in ctx.recorder.steps] == ["extractor", "merger"]
    assert [ref.id for ref in ctx.recorder.steps[1].retrieved] == [old.id]
    assert [version.text for version in await store.history(HOME, old.id)] == [old.text, record.text]


async def test_two_topics_of_one_batch_merge_into_the_same_memory(store: MemoryStore) -> None:
    await _said(store, *TURNS)
    await _rmm().reflect("monday", context(_policy(lambda p: _extracted(("User's sister is Ida.", [3]))), store))
    await _said(store, "Ida is 30.", "Ida sings.", session="tuesday", prefix="u")

    def merges(prompt: str) -> str:
        kept = prompt.partition("[1] ")[2].partition("\n")[0]
        return f"Merge(1, {kept} {prompt.partition('<new_memory>')[2].split(chr(10))[1]})"

    llm = _policy(lambda prompt: _extracted(("User's sister is 30.", [0]), ("User's sister sings.", [1])), merges)
    (record,) = await _rmm().reflect("tuesday", context(llm, store, trajectory_id="t2"))
    assert record.text == "User's sister is Ida. User's sister is 30. User's sister sings."
    assert turns_of(record) == ("t3", "u0", "u1")


async def test_each_speaker_is_extracted_by_a_call_of_its_own(store: MemoryStore) -> None:
    await _said(store, "I need a plan for Oslo.")
    await _said(store, "Go by train on Friday.", trust="assistant", prefix="a")
    llm = _policy(
        lambda prompt: (
            _extracted(("User goes to Oslo.", [0]))
            if "what user says" in prompt
            else _extracted(("Assistant advised the train on Friday.", [1]))
        )
    )
    written = await _rmm(assistant=True).reflect("monday", context(llm, store))
    assert [(record.trust, turns_of(record)) for record in written] == [("user", ("t0",)), ("assistant", ("a0",))]
    assert "0 user: I need a plan for Oslo.\n1 assistant: Go by train on Friday." in llm.calls[0].prompt


async def test_no_trait_is_nothing_and_what_cannot_be_read_is_an_error(store: MemoryStore) -> None:
    await _said(store, "What a day!")
    seq = await store.seq(HOME)
    assert await _rmm().reflect("monday", context(_policy(lambda prompt: "NO_TRAIT"), store)) == []
    with pytest.raises(EngineError, match="could not be read"):
        await _rmm().reflect("monday", context(_policy(lambda prompt: "Let me see."), store))
    assert await _rmm().reflect("never was", context(_policy(lambda prompt: "?"), store)) == []
    assert await store.seq(HOME) == seq


async def test_a_failure_in_the_middle_writes_nothing(store: MemoryStore) -> None:
    await _said(store, *TURNS)
    await _rmm().reflect("monday", context(_policy(lambda p: _extracted(("User's sister is Ida.", [3]))), store))
    await _said(store, "Ida is 30.", "Ida sings.", session="tuesday", prefix="u")

    def breaks(prompt: str) -> str:
        if "sings" in prompt:
            raise EngineUnavailable("gone")
        return "Add()"

    llm = _policy(lambda prompt: _extracted(("User's sister is 30.", [0]), ("User's sister sings.", [1])), breaks)
    seq = await store.seq(HOME)
    with pytest.raises(EngineUnavailable):
        await _rmm().reflect("tuesday", context(llm, store, trajectory_id="t2"))
    assert await store.seq(HOME) == seq


async def test_a_session_beyond_the_window_is_read_in_halves(store: MemoryStore) -> None:
    await _said(store, *(f"Turn number {number}: {'x' * 200}." for number in range(8)))
    llm = _policy(lambda prompt: _extracted(("A topic of " + prompt.partition("0 user: ")[2][:13], [0])), window=2800)
    written = await _rmm().reflect("monday", context(llm, store))
    assert len(written) > 1
    assert written[0].text == "A topic of Turn number 0"
    assert turns_of(written[-1]) != ("t0",)
    llm.window = 100
    await _said(store, "And more.", session="tuesday", prefix="u")
    with pytest.raises(ContextTooLong):
        await _rmm().reflect("tuesday", context(llm, store, trajectory_id="t2"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_extracted(("A", [0, 2, 2])), [("A", [0, 2])]),
        ("<think>hm</think>```json\n" + _extracted((" A ", [1])) + "\n```", [("A", [1])]),
        ("NO_TRAIT", []),
        ("NO_TRAIT.", []),
        (_extracted(), []),
        (_extracted(("A", [0]), ("", [1]), ("B", [9]), ("C", [])), [("A", [0])]),
        (_extracted(("B", [9])), None),
        ('{"extracted_memories": "A"}', None),
        ('{"extracted_memories": [1, null, {"summary": 3, "reference": [0]}]}', None),
        ("", None),
        ('{"' * 50_000, None),
    ],
)
def test_extracted_memories_are_read_or_refused(text: str, expected: list[tuple[str, list[int]]] | None) -> None:
    assert extractor.parse(text, 3) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Add()", None),
        ("Merge(2, User has a dog.)", Merge(2, "User has a dog.")),
        ("  Merge( 1 , User (Ada) has a dog. ) ", Merge(1, "User (Ada) has a dog.")),
        ("<think>Add()</think>\nMerge(1, A)", Merge(1, "A")),
        ("Add()\nMerge(1, A)", None),
        ("Merge(3, A)", None),
        ("Merge(0, A)", None),
        ("Merge(1, )", None),
        ("I would merge them.", None),
    ],
)
def test_an_action_line_is_read(text: str, expected: Merge | None) -> None:
    assert merger.parse(text, 2) == expected


@given(st.text(alphabet='{}[]":,0123456789 AddMerge()NO_TRAIT\n\ud800sumaryefnc'))
def test_reading_never_raises(text: str) -> None:
    assert extractor.parse(text, 3) is None or isinstance(extractor.parse(text, 3), list)
    assert merger.parse(text, 3) is None or isinstance(merger.parse(text, 3), Merge)
