"""Memory-R1 (arXiv 2508.19828) as its paper has it: asserted on the prompts that were asked, the steps and the operations recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from cases import ANSWER_AGENT, HOME, MANAGER, add, agent, ask, context, engine, request

from recollect.memory import MemoryWrite
from recollect.stores import MemoryStore
from server.agents.base import AgentContext
from server.agents.memory_r1.banks import SECOND
from server.agents.memory_r1.decision import schema
from server.agents.prompts import load_prompt
from server.engines.scripted import ScriptedEngine

FACTS = "Ida has two cats.\nIda works as a nurse.\nIda gave up her trip to Oslo.\nIda is called Ida."
CHOICES = {
    "Ida has two cats.": {"op": "UPDATE", "id": 1, "text": "Ida has two cats, Miro and Lumi."},
    "Ida works as a nurse.": {"op": "ADD"},
    "Ida gave up her trip to Oslo.": {"op": "DELETE", "id": 1},
    "Ida is called Ida.": {"op": "NOOP"},
}


def fact_in(prompt: str) -> str:
    return prompt.rpartition("<fact>\n")[2].partition("\n</fact>")[0]


def manages(prompt: str, facts: str = FACTS, choices: dict[str, dict[str, object]] = CHOICES) -> str:
    """Plays both calls of the manager: the facts of a turn, and one operation for each."""
    return json.dumps(choices[fact_in(prompt)]) if "<fact>" in prompt else facts


async def remembered(store: MemoryStore, says: Callable[[str], str] = manages, **changed: object) -> tuple[AgentContext, ScriptedEngine]:
    llm = engine(says, window=100_000)
    ctx = replace(context(llm, store), **changed)
    await agent("memory-r1", "default", related=2).remember(request("I have two cats now, and more."), "Lovely!", ctx)
    return ctx, llm


async def texts(store: MemoryStore) -> list[str]:
    return sorted(record.text for record in await store.list(HOME))


async def test_a_turn_is_extracted_then_each_fact_gets_its_top_k_and_one_operation(store: MemoryStore) -> None:
    await add(store, "Ida has a cat called Miro.", "Ida plans a trip to Oslo.", "Ida likes rain.")
    ctx, llm = await remembered(store)
    extraction, *decisions = ctx.recorder.steps
    assert [step.role for step in ctx.recorder.steps] == ["extractor"] + ["manager"] * 4
    assert extraction.messages == load_prompt("default", "extract").render(turn="I have two cats now, and more.")
    assert [fact_in(call.messages[-1].content) for call in llm.calls[1:]] == FACTS.splitlines()
    assert [len(step.retrieved) for step in decisions] == [2] * 4
    assert [[(op.op, op.applied) for op in step.memory_ops] for step in decisions] == [
        [("update", True)],
        [("add", True)],
        [("delete", True)],
        [("noop", True)],
    ]
    fact = FACTS.splitlines()[0]
    top = sorted((hit.record for hit in await store.search(HOME, fact, limit=2, as_of=3)), key=lambda record: record.seq_from)
    assert [ref.id for ref in decisions[0].retrieved] == [record.id for record in top]
    numbered = "\n".join(f"{number} {record.text}" for number, record in enumerate(top, start=1))
    assert decisions[0].messages == load_prompt("default", "manage").render(memories=numbered, fact=fact)


async def test_each_decision_is_made_on_the_memory_that_those_before_it_leave(store: MemoryStore) -> None:
    choices: dict[str, dict[str, object]] = {
        "Ida has a cat.": {"op": "ADD"},
        "The cat of Ida is Miro.": {"op": "UPDATE", "id": 1, "text": "Ida has a cat, Miro."},
    }
    ctx, _ = await remembered(store, lambda prompt: manages(prompt, "\n".join(choices), choices))
    assert "\n1 Ida has a cat.\n" in ctx.recorder.steps[2].messages[-1].content
    assert await texts(store) == ["Ida has a cat, Miro."]
    assert await store.seq(HOME) == 1
    (record,) = await store.list(HOME)
    assert [step.memory_ops[0].id for step in ctx.recorder.steps[1:]] == [record.id] * 2


async def test_add_inserts_the_fact_update_merges_delete_removes_and_noop_does_nothing(store: MemoryStore) -> None:
    await add(store, "Ida has a cat called Miro.", "Ida plans a trip to Oslo.")
    await remembered(store)
    assert await texts(store) == ["Ida has two cats, Miro and Lumi.", "Ida works as a nurse."]
    assert await store.seq(HOME) == 3
    history = await store.history(HOME, "m1")
    assert [record.text for record in history] == ["Ida has a cat called Miro.", "Ida has two cats, Miro and Lumi."]


async def test_the_two_policies_are_two_aliases_and_each_call_names_its_own(store: MemoryStore) -> None:
    await add(store, "Ida has a cat called Miro.")
    llm = engine(lambda prompt: manages(prompt) if "Answer the question" not in prompt else "[1] Miro\n**Answer:** Miro", window=100_000)
    ctx = context(llm, store)
    memory = agent("memory-r1", "default")
    answer, _, _ = await ask(memory, request("What is the cat of Ida called?"), ctx)
    await memory.remember(request("I have two cats."), answer, ctx)
    assert memory.aliases == {"memory-manager", "memory-answer"}
    found = [(step.role, step.alias, step.policy) for step in ctx.recorder.steps]
    assert found[:3] == [
        ("answerer", "memory-answer", ANSWER_AGENT),
        ("extractor", "memory-manager", MANAGER),
        ("manager", "memory-manager", MANAGER),
    ]
    assert {alias for role, alias, _ in found if role != "answerer"} == {"memory-manager"}


async def _two_banks(store: MemoryStore, count: int) -> None:
    writes = [
        MemoryWrite(
            op="add",
            id=f"{name}{i}",
            text=f"{name} saw bird number {i}.",
            tags=tags,
            metadata={"speaker": name},
            valid_at=datetime(2023, 5, 1 + i % 28, tzinfo=UTC),
        )
        for i in range(count)
        for name, tags in (("Ida", ()), ("Ola", (SECOND,)))
    ]
    await store.apply(HOME, writes)


async def test_the_candidates_are_thirty_of_each_speaker_shown_by_speaker_with_dates(store: MemoryStore) -> None:
    await _two_banks(store, 40)
    llm = engine(lambda prompt: "**Answer:** none", window=100_000)
    ctx = context(llm, store)
    await ask(agent("memory-r1", "default"), request("Who saw which bird?"), ctx)
    (step,) = ctx.recorder.steps
    assert [ref.id[:3] for ref in step.retrieved] == ["Ida"] * 30 + ["Ola"] * 30
    ida, _, ola = step.messages[-1].content.partition("\nMemories of Ida:\n")[2].partition("\n\nMemories of Ola:\n")
    shown = [*ida.splitlines(), *ola.partition("\n</recollect_memories>")[0].splitlines()]
    assert len(shown) == 60
    for number, (line, ref) in enumerate(zip(shown, step.retrieved, strict=True), start=1):
        record = await store.get(HOME, ref.id)
        assert record is not None
        assert record.valid_at is not None
        assert line == f"[{number}] ({record.valid_at.day} May 2023) {record.text}"


async def test_a_speaker_of_few_memories_does_not_make_room_for_the_other(store: MemoryStore) -> None:
    await _two_banks(store, 40)
    await store.apply(HOME, [MemoryWrite(op="delete", id=f"Ola{i}") for i in range(38)])
    ctx = context(engine(lambda prompt: "**Answer:** none", window=100_000), store)
    await ask(agent("memory-r1", "default"), request("Who saw which bird?"), ctx)
    assert [ref.id[:3] for ref in ctx.recorder.steps[0].retrieved] == ["Ida"] * 30 + ["Ola"] * 2


async def test_the_chosen_memories_come_first_and_only_the_short_answer_goes_out(store: MemoryStore) -> None:
    await _two_banks(store, 3)
    said = "[5] Ola saw bird number 1.\n[2] Ida saw bird number 1.\n**Answer:** Both [1] of them"
    ctx = context(engine(lambda prompt: said, window=100_000), store)
    answer, pieces, _ = await ask(agent("memory-r1", "default"), request("Who saw bird 1?", stream=True), ctx)
    assert answer == "Both [1] of them"
    assert len(pieces) > 1
    (step,) = ctx.recorder.steps
    assert step.text == said
    assert step.cited == [step.retrieved[4].id, step.retrieved[1].id]
    assert step.trainable


async def test_operations_are_decoded_under_the_schema_where_the_engine_can_and_are_then_not_trained_on(store: MemoryStore) -> None:
    await add(store, "Ida has a cat called Miro.")
    llm = engine(manages, window=100_000, guided=True)
    ctx = context(llm, store)
    await agent("memory-r1", "default").remember(request("I have two cats now."), "", ctx)
    assert [call.sampling.schema for call in llm.calls] == [None, schema(1), schema(1), schema(2), schema(1)]
    assert [(step.guided, step.trainable) for step in ctx.recorder.steps] == [(False, True)] + [(True, False)] * 4


async def test_in_training_and_on_other_engines_operations_are_decoded_freely(store: MemoryStore) -> None:
    for guided_engine, guided_context, pack in ((True, False, "default"), (False, True, "default"), (True, True, "compact")):
        llm = engine(lambda prompt: "NOOP" if "Operations" in prompt or "<fact>" in prompt else "A fact.", guided=guided_engine)
        ctx = replace(context(llm, store), guided=guided_context)
        await agent("memory-r1", pack).remember(request("I have two cats."), "", ctx)
        assert [call.sampling.schema for call in llm.calls] == [None, None]
        assert all(step.trainable for step in ctx.recorder.steps)


async def test_an_error_of_form_is_recorded_and_changes_nothing(store: MemoryStore) -> None:
    said = iter(["Ida has a cat.\nIda sings.", "I would ADD it", '{"op": "ADD"} {"op": "DELETE", "id": 1}'])
    ctx, _ = await remembered(store, lambda prompt: next(said))
    found = [[(op.op, op.applied, op.well_formed) for op in step.memory_ops] for step in ctx.recorder.steps[1:]]
    assert found == [[("noop", False, False)], [("add", True, True), ("noop", False, False)]]
    assert await texts(store) == ["Ida sings."]
