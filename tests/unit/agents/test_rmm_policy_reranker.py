"""The language model as reranker: what it is shown, what is recorded, what is read from its answer."""

from __future__ import annotations

import pytest
from cases import HOME, POLICY, add, agent, ask, context, engine, request
from hypothesis import given
from hypothesis import strategies as st

from recollect.settings import RmmSettings
from recollect.stores import MemoryStore
from server.agents.base import Agent
from server.agents.rmm.policy_reranker import chosen_ids

DOGS = [f"User's dog number {i} is called Timo{i}." for i in range(1, 36)]


def _rmm(**settings: int) -> Agent:
    return agent("rmm", "default", rmm=RmmSettings.model_validate({"reranker": "policy", "candidates": 40, **settings}))


async def test_it_sees_at_most_30_candidates_and_its_choice_is_shown_oldest_first(store: MemoryStore) -> None:
    await add(store, *DOGS)
    llm = engine(lambda prompt: "<think>[1]? No.</think>[3, 2]" if "<think>" in prompt else "It is Timo [1].")
    ctx = context(llm, store)
    answer, _, _ = await ask(_rmm(), request("What is the dog called?", temperature=0.7), ctx)
    ranked, answered = ctx.recorder.steps
    assert answer == "It is Timo [1]."
    assert (ranked.role, ranked.policy, ranked.sampling["temperature"], len(ranked.retrieved)) == ("reranker", POLICY, 0.7, 30)
    assert ranked.trainable
    assert "[30] " in llm.calls[0].prompt
    assert "[31] " not in llm.calls[0].prompt
    chosen = [ranked.retrieved[2].id, ranked.retrieved[1].id]
    assert ranked.cited == chosen
    assert [ref.id for ref in answered.retrieved] == chosen[::-1]
    assert answered.cited == [chosen[1]]


async def test_a_choice_that_cannot_be_read_leaves_the_best_by_search(store: MemoryStore) -> None:
    await add(store, *DOGS[:12])
    llm = engine(lambda prompt: "All of them!" if "<think>" in prompt else "ok")
    ctx = context(llm, store)
    await ask(_rmm(shown=4), request("How is dog number 7 Timo7 called?"), ctx)
    ranked, answered = ctx.recorder.steps
    assert (ranked.cited, ranked.text, len(answered.retrieved)) == ([], "All of them!", 4)
    assert "m7" in [ref.id for ref in answered.retrieved]


async def test_without_a_memory_it_is_not_asked(store: MemoryStore) -> None:
    ctx = context(engine(lambda prompt: "ok"), store)
    await ask(_rmm(), request("What is my dog?"), ctx)
    assert [step.role for step in ctx.recorder.steps] == ["answerer"]
    assert await store.seq(HOME) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[2, 1]", [2, 1]),
        ("<think>[9]</think>\nThese: [4]", [4]),
        ("```json\n[1, 2]\n```", [1, 2]),
        ("first [1], then [2, 3]", [2, 3]),
        ("<think>[1]", None),
        ("[]", None),
        ("[0]", None),
        ("[11]", None),
        ("[1, 1]", None),
        ("[1, true]", None),
        ('["1"]', None),
        ("[1.0]", None),
        ("[1, 2, 3, 4, 5, 6, 7, 8, 9]", None),
        ("none", None),
        ("", None),
        (f"[{'9' * 5000}]", None),
        ("[" * 100_000, None),
    ],
)
def test_a_list_of_ids_is_read_or_refused(text: str, expected: list[int] | None) -> None:
    assert chosen_ids(text, 10) == expected


@given(st.text(alphabet='[]0123456789, <>/think\n"e-.ab\ud800'), st.integers(0, 40))
def test_reading_never_raises_and_gives_valid_ids_or_none(text: str, count: int) -> None:
    found = chosen_ids(text, count)
    assert found is None or (1 <= len(found) <= 8 and len(set(found)) == len(found) and all(1 <= number <= count for number in found))
