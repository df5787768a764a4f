"""What the memory agent remembers: turns as they were said, operations of the policy, and never what it recalled itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from cases import HOME, POLICY, add, agent, ask, context, engine, request

from recollect.errors import ContextTooLong, StorageFull
from recollect.memory import MAX_TEXT, Applied, MemoryWrite, Namespace
from recollect.messages import assistant, user
from recollect.stores import MemoryStore
from server.agents.base import AgentContext
from server.agents.prompts import load_prompt
from server.engines.scripted import ScriptedEngine

TURN = "My dog is now Timo."


async def texts(store: MemoryStore) -> list[str]:
    return [record.text for record in reversed(await store.list(HOME))]


async def remembered(store: MemoryStore, says: str | Callable[[str], str], turn: str = TURN, **settings: Any) -> AgentContext:
    llm = engine(says if callable(says) else lambda prompt: says)
    ctx = context(llm, store)
    await agent("memory", writing="operations", **settings).remember(request(turn), "an answer", ctx)
    return ctx


async def test_a_turn_is_kept_as_it_was_said_with_its_origin(store: MemoryStore) -> None:
    ctx = context(engine(lambda prompt: "Noted."), store)
    asked = request(user("Hello."), assistant("Hi."), "  My dog is Brann.\nHe is old. ")
    await ask(agent("memory"), asked, ctx)
    await agent("memory").acknowledge(asked, ctx)
    (record,) = await store.list(HOME)
    assert (record.text, record.kind, record.trust) == ("My dog is Brann.\nHe is old.", "episodic", "user")
    origin = record.provenance
    assert (origin.trajectory_id, origin.step, origin.session, origin.channel) == ("t1", 1, "monday", "chat")
    step = ctx.recorder.steps[1]
    assert (step.role, step.memory_ops[0].id, step.memory_ops[0].applied) == ("writer", record.id, True)
    assert not step.trainable


async def test_a_repeated_acknowledgement_writes_once(store: MemoryStore) -> None:
    ctx = context(engine(lambda prompt: "ok"), store)
    await agent("memory").acknowledge(request("My dog is Brann."), ctx)
    await agent("memory").acknowledge(request("My dog is Brann."), ctx)
    assert await store.seq(HOME) == 1
    assert len(ctx.recorder.steps) == 1
    await agent("memory").acknowledge(request("My dog is Brann."), context(engine(lambda prompt: "ok"), store))
    assert await store.seq(HOME) == 1


@pytest.mark.parametrize("turn", ["My dog  is Brann.", "👍", "what is it"])
async def test_the_same_words_are_not_kept_twice(store: MemoryStore, turn: str) -> None:
    await add(store, *(f"My {x} is Brann." for x in ("cat", "boss", "horse")), "My dog is Brann.", "👍", "what is it", kind="episodic")
    await agent("memory").acknowledge(request(turn), context(engine(lambda prompt: "ok"), store))
    assert await store.seq(HOME) == 6


@pytest.mark.parametrize("turn", ["", "  \n"])
async def test_an_empty_turn_is_not_kept(store: MemoryStore, turn: str) -> None:
    ctx = context(engine(lambda prompt: "ADD x"), store)
    await agent("memory").acknowledge(request("Hello.", assistant("Hi."), turn), ctx)
    await agent("memory", writing="operations").remember(request(turn), "a", ctx)
    assert await store.seq(HOME) == 0


async def test_what_was_recalled_is_never_stored_again(store: MemoryStore) -> None:
    await add(store, "User's dog is Brann.")
    llm = engine(lambda prompt: "Brann [1]")
    await ask(agent("memory"), request("What is my dog?"), context(llm, store))
    echoed = llm.calls[-1].messages[-1].content
    assert "Brann" in echoed
    for number in range(3):
        ctx = context(llm, store, f"echo{number}")
        sent = request(echoed, assistant("Brann [1]"), user(echoed.replace("What is my dog?", "")), user(echoed))
        await ask(agent("memory"), sent, ctx)
        await agent("memory").acknowledge(sent, ctx)
    assert await texts(store) == ["User's dog is Brann.", "What is my dog?"]


async def test_a_turn_beyond_the_limit_of_a_memory_is_kept_in_parts(store: MemoryStore) -> None:
    turn = "".join(f"{i} " for i in range(12_000)).strip()
    ctx = context(engine(lambda prompt: "ok"), store)
    await agent("memory").acknowledge(request(turn), ctx)
    records = {record.id: record.text for record in await store.list(HOME)}
    parts = [records[op.id or ""] for op in ctx.recorder.steps[0].memory_ops]
    assert "".join(parts) == turn
    assert len(parts) == -(-len(turn) // MAX_TEXT) > 1
    assert await store.seq(HOME) == 1


async def test_half_a_character_does_not_fail_the_request(store: MemoryStore) -> None:
    await agent("memory").acknowledge(request("My dog is \ud83d."), context(engine(lambda prompt: "ok"), store))
    assert await texts(store) == ["My dog is ?."]


async def test_the_policy_adds_updates_and_deletes_in_one_commit(store: MemoryStore) -> None:
    ids = await add(store, "User's dog is Brann.", "User's dog is old.")
    ctx = await remembered(store, "UPDATE 1 User's dog is Timo.\nDELETE 2\nADD User's old dog was Brann.")
    assert await store.seq(HOME) == 3
    assert sorted(await texts(store)) == ["User's dog is Timo.", "User's old dog was Brann."]
    updated = await store.get(HOME, ids[0])
    assert updated is not None
    assert (updated.provenance.trajectory_id, updated.provenance.step, updated.kind) == ("t1", 0, "semantic")
    (step,) = ctx.recorder.steps
    assert [(op.op, op.applied) for op in step.memory_ops] == [("update", True), ("delete", True), ("add", True)]
    assert [op.id for op in step.memory_ops][:2] == ids
    assert step.policy == POLICY
    assert step.trainable


async def test_the_operations_prompt_has_the_form_that_the_seed_was_taught(store: MemoryStore) -> None:
    ctx = await remembered(store, "NOOP")
    assert ctx.recorder.steps[0].messages == load_prompt("compact", "operations").render(memories="none", turn=TURN)
    await add(store, "User's dog is Brann.", "User's dog's\n2 friend is Ola.")
    await add(store, "My dog is a turn.", kind="episodic", prefix="e")
    ctx = await remembered(store, "NOOP")
    numbered = "1 User's dog is Brann.\n2 User's dog's 2 friend is Ola."
    assert ctx.recorder.steps[0].messages == load_prompt("compact", "operations").render(memories=numbered, turn=TURN)
    assert [ref.id for ref in ctx.recorder.steps[0].retrieved] == ["m1", "m2"]


async def test_the_default_pack_speaks_json(store: MemoryStore) -> None:
    (dog,) = await add(store, "User's dog is Brann.")
    operations = [{"op": "UPDATE", "id": "1", "text": "User's dog is Timo."}, {"op": "ADD", "text": "User likes dogs."}, {"op": "MERGE"}]
    said = f"<think>maybe [1]?</think>Sure:\n```json\n{json.dumps({'operations': operations})}\n```"
    ctx = await remembered(store, said, pack="default")
    assert sorted(await texts(store)) == ["User likes dogs.", "User's dog is Timo."]
    assert [(op.op, op.applied) for op in ctx.recorder.steps[0].memory_ops] == [("update", True), ("add", True), ("noop", False)]
    assert (await store.get(HOME, dog)) is not None


async def test_what_cannot_be_applied_is_recorded_and_the_rest_is(store: MemoryStore) -> None:
    await add(store, "dog Bo")
    lines = [
        "UPDATE 7 cat",
        "DELETE 0",
        "UPDATE 1 dog  Bo",
        "ADD dog Bo",
        "ADD cat Mia",
        "ADD cat  Mia",
        "FORGET all",
        "NOOP",
        "UPDATE 1 dog Ti",
        "DELETE 1",
    ]
    ctx = await remembered(store, "\n".join(lines), turn="dog")
    ops = ctx.recorder.steps[0].memory_ops
    assert [op.applied for op in ops] == [False, False, False, False, True, False, False, True, True, False]
    assert (ops[0].id, ops[3].id, ops[6].op, ops[6].text) == (None, "m1", "noop", "FORGET all")
    assert sorted(await texts(store)) == ["cat Mia", "dog Ti"]


async def test_a_policy_that_repeats_itself_does_not_flood_the_memory(store: MemoryStore) -> None:
    ctx = await remembered(store, json.dumps([{"op": "ADD", "text": f"x{i}"} for i in range(25)]), pack="default")
    assert len(await texts(store)) == 16
    assert [op.applied for op in ctx.recorder.steps[0].memory_ops] == [True] * 16 + [False] * 9


async def test_nothing_to_do_is_no_commit(store: MemoryStore) -> None:
    ctx = await remembered(store, "NOOP")
    assert await store.seq(HOME) == 0
    assert ctx.recorder.steps[0].memory_ops[0].applied


class Failing:
    """A store whose next commit fails, before or after it is made."""

    def __init__(self, store: MemoryStore, *, after: bool) -> None:
        self._store = store
        self._after = after
        self.failures = 1

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def apply(self, namespace: Namespace, writes: list[MemoryWrite]) -> Applied:
        if self.failures and not self._after:
            self.failures -= 1
            raise StorageFull("the disk is full")
        applied = await self._store.apply(namespace, writes)
        if self.failures:
            self.failures -= 1
            raise StorageFull("the acknowledgement was lost")
        return applied


@pytest.mark.parametrize("after", [False, True])
async def test_a_retry_commits_what_was_decided_exactly_once(store: MemoryStore, after: bool) -> None:
    await add(store, "User's dog is Brann.", "User's dog is old.")
    said = iter(["UPDATE 1 User's dog is Timo.\nDELETE 2\nADD User's old dog was Brann.", "ADD something else"])
    llm = engine(lambda prompt: next(said))
    ctx = context(llm, Failing(store, after=after))  # type: ignore[arg-type]
    memory = agent("memory", writing="operations")
    with pytest.raises(StorageFull):
        await memory.remember(request(TURN), "ok", ctx)
    assert await store.seq(HOME) == (3 if after else 2)
    await memory.remember(request(TURN), "ok", ctx)
    await memory.remember(request(TURN), "ok", ctx)
    assert len(llm.calls) == 1
    assert await store.seq(HOME) == 3
    assert sorted(await texts(store)) == ["User's dog is Timo.", "User's old dog was Brann."]
    assert len(ctx.recorder.steps) == 1


@pytest.mark.parametrize("after", [False, True])
async def test_a_retried_acknowledgement_keeps_the_turn_exactly_once(store: MemoryStore, after: bool) -> None:
    ctx = context(engine(lambda prompt: "ok"), Failing(store, after=after))  # type: ignore[arg-type]
    with pytest.raises(StorageFull):
        await agent("memory").acknowledge(request(TURN), ctx)
    await agent("memory").acknowledge(request(TURN), ctx)
    assert await texts(store) == [TURN]
    assert await store.seq(HOME) == 1
    assert [op.text for step in ctx.recorder.steps for op in step.memory_ops] == [TURN]


async def test_a_memory_deleted_meanwhile_takes_nothing_else_with_it(store: MemoryStore) -> None:
    await add(store, "User's dog is Brann.", "User's dog is old.")

    class Racing(Failing):
        async def apply(self, namespace: Namespace, writes: list[MemoryWrite]) -> Applied:
            if self.failures:
                self.failures = 0
                await store.apply(HOME, [MemoryWrite(op="delete", id="m2")])
            return await store.apply(namespace, writes)

    ctx = context(engine(lambda prompt: "UPDATE 1 User's dog is Timo.\nDELETE 2"), Racing(store, after=False))  # type: ignore[arg-type]
    await agent("memory", writing="operations").remember(request(TURN), "ok", ctx)
    assert await texts(store) == ["User's dog is Timo."]
    assert [op.applied for op in ctx.recorder.steps[0].memory_ops] == [True, False]


async def test_a_decision_that_failed_is_an_error_and_can_be_made_again(store: MemoryStore) -> None:
    llm = engine(lambda prompt: "ADD User's dog is Timo.")
    llm.trouble.fail, llm.trouble.failures = ContextTooLong(10, 5), 1
    ctx = context(llm, store)
    with pytest.raises(ContextTooLong):
        await agent("memory", writing="operations").remember(request(TURN), "ok", ctx)
    await agent("memory", writing="operations").remember(request(TURN), "ok", ctx)
    assert [s.error is None for s in ctx.recorder.steps] == [False, True]
    assert await texts(store) == ["User's dog is Timo."]


async def test_each_way_of_writing_leaves_the_other_alone(store: MemoryStore) -> None:
    llm = engine(lambda prompt: "ADD User's dog is Timo.")
    await agent("memory", writing="operations").acknowledge(request(TURN), context(llm, store))
    await agent("memory", writing="episodic").remember(request(TURN), "ok", context(llm, store))
    await agent("reader").acknowledge(request(TURN), context(llm, store))
    await agent("reader").remember(request(TURN), "ok", context(llm, store))
    assert (llm.calls, await store.seq(HOME)) == ([], 0)


async def test_siblings_remember_on_forks_of_their_own_by_the_code_that_serves(store: MemoryStore) -> None:
    await add(store, "User's dog is Brann.")
    said = iter(["UPDATE 1 User's dog is Timo.", "DELETE 1", "ADD User's dog is Ola.", "NOOP"])
    llm: ScriptedEngine = engine(lambda prompt: next(said))
    memory = agent("memory", writing="operations")
    forks = [await store.fork(HOME) for _ in range(4)]
    contexts = [context(llm, fork, f"sibling{i}") for i, fork in enumerate(forks)]
    await asyncio.gather(*(memory.remember(request(TURN, temperature=1.0), "ok", ctx) for ctx in contexts))
    found = [await texts(fork) for fork in forks]
    assert found == [["User's dog is Timo."], [], ["User's dog is Brann.", "User's dog is Ola."], ["User's dog is Brann."]]
    assert await texts(store) == ["User's dog is Brann."]
    assert {call.sampling.temperature for call in llm.calls} == {1.0}
    assert {call.sampling.max_tokens for call in llm.calls} == {128}
