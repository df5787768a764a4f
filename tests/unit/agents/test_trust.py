"""What a tool returned or a document holds is told apart from the user's words, and does not become a fact about the user."""

from __future__ import annotations

import pytest
from cases import HOME, agent, ask, context, engine, request

from recollect.memory import MemoryWrite, Trust
from recollect.stores import MemoryStore


async def _add(store: MemoryStore, memory_id: str, text: str, trust: Trust) -> None:
    await store.apply(HOME, [MemoryWrite(op="add", id=memory_id, text=text, trust=trust, tags=("pets",), importance=0.5)])


@pytest.mark.parametrize(
    ("trust", "shown"),
    [
        ("user", "[1] The dog is Brann."),
        ("unknown", "[1] The dog is Brann."),
        ("operator", "[1] The dog is Brann."),
        ("assistant", "[1] (said by an assistant) The dog is Brann."),
        ("tool", "[1] (a tool's output, not the user's words) The dog is Brann."),
        ("document", "[1] (from a document, not the user's words) The dog is Brann."),
    ],
)
async def test_the_source_stands_before_a_memory_that_the_user_did_not_say(store: MemoryStore, trust: Trust, shown: str) -> None:
    await _add(store, "m1", "The dog is Brann.", trust)
    llm = engine(lambda prompt: "Brann")
    await ask(agent("memory"), request("What is my dog?"), context(llm, store))
    assert shown in llm.calls[-1].messages[-1].content.splitlines()


async def test_the_policy_is_not_shown_what_a_document_or_tool_said_when_it_writes_facts(store: MemoryStore) -> None:
    await _add(store, "m1", "The user's dog is Brann.", "user")
    await _add(store, "m2", "The user's dog is a wolf.", "document")
    await _add(store, "m3", "The user's dog is stolen.", "tool")
    llm = engine(lambda prompt: "UPDATE 1 The user's dog is Timo.\nDELETE 2")
    await agent("memory", writing="operations").remember(request("My dog is now Timo."), "an answer", context(llm, store))
    asked = llm.calls[-1].messages[-1].content
    assert "Brann" in asked
    assert "wolf" not in asked
    assert "stolen" not in asked
    found = {record.id: record for record in await store.list(HOME)}
    assert {memory_id: record.trust for memory_id, record in found.items()} == {"m1": "user", "m2": "document", "m3": "tool"}
    assert (found["m1"].text, found["m1"].tags, found["m1"].importance) == ("The user's dog is Timo.", ("pets",), 0.5)
