"""The agent `rmm`: K candidates, M shown with their raw turns, citations in one call, learning after the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import HOME, add, agent, ask, context, engine, request

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.memory import MemoryWrite
from recollect.messages import assistant, user
from recollect.settings import RmmSettings
from recollect.stores import MemoryStore
from server.agents.base import AgentContext
from server.agents.rmm.online import OnlineReranker
from server.agents.rmm.rerankers import Rerankers
from server.engines.scripted import ScriptedEngine

NAMES = ("Brann", "Ola", "Timo", "Kara", "Fenn", "Juno", "Milo", "Nala", "Otto", "Pia")
DOGS = [f"User's dog number {i} is called {name}." for i, name in enumerate(NAMES)]


def _rmm(**settings: Any) -> Any:
    return agent("rmm", "default", rmm=RmmSettings.model_validate(settings))


def _learning(ctx: AgentContext, root: Path, **settings: Any) -> AgentContext:
    return replace(ctx, rerankers=Rerankers(root, RmmSettings.model_validate({"batch": 1, **settings})))


def _reranker(ctx: AgentContext) -> OnlineReranker:
    assert ctx.rerankers is not None
    return ctx.rerankers.of("local", HashEmbedder().id, HashEmbedder().dimension)


def _asked(llm: ScriptedEngine) -> str:
    return llm.calls[-1].messages[-1].content


async def test_of_k_candidates_the_best_m_are_shown_oldest_first_and_all_are_recorded(store: MemoryStore) -> None:
    await add(store, *DOGS)
    llm = engine(lambda prompt: "It is Timo [1].")
    ctx = context(llm, store)
    answer, _, _ = await ask(_rmm(candidates=6, shown=3), request("How is dog number 2 Timo called?"), ctx)
    ranked, answered = ctx.recorder.steps
    assert answer == "It is Timo [1]."
    assert (ranked.role, ranked.policy, len(ranked.retrieved)) == ("reranker", None, 6)
    best = sorted(ranked.retrieved, key=lambda ref: ref.score or 0, reverse=True)[:3]
    assert {ref.id for ref in answered.retrieved} == {ref.id for ref in best}
    assert [ref.id for ref in answered.retrieved] == sorted((ref.id for ref in best), key=lambda i: int(i[1:]))
    assert "m3" in {ref.id for ref in best}
    assert answered.cited == [answered.retrieved[0].id]


async def test_scores_are_the_cosines_of_the_stores_embedder_while_nothing_is_learned(store: MemoryStore) -> None:
    await add(store, *DOGS)
    ctx = context(engine(lambda prompt: "ok"), store)
    await ask(_rmm(shown=2), request("Timo?"), ctx)
    embedded = await HashEmbedder().embed(["Timo?", *DOGS])
    cosines = dict(zip((f"m{i}" for i in range(1, 11)), embedded[1:] @ embedded[0], strict=True))
    assert {ref.id: ref.score for ref in ctx.recorder.steps[0].retrieved} == pytest.approx(cosines, abs=1e-6)


async def test_a_topic_memory_is_shown_with_its_raw_turns_and_they_are_no_candidates_of_their_own(store: MemoryStore) -> None:
    turns = await add(store, "My dog Timo ran off.", "Timo came back\nwith a stick.", kind="episodic", prefix="t")
    topic = {"op": "add", "id": "topic", "text": "User's dog Timo ran off and came back.", "tags": ("topic",), "trust": "user"}
    await store.apply(HOME, [MemoryWrite.model_validate(topic | {"metadata": {"turns": " ".join([*turns, "gone"])}})])
    llm = engine(lambda prompt: "He came back [1].")
    ctx = context(llm, store)
    await ask(_rmm(), request("What about Timo?"), ctx)
    shown = (
        "[1] User's dog Timo ran off and came back.\n    - user: My dog Timo ran off.\n    - user: Timo came back\n    with a stick.\n  </"
    )
    assert shown.replace("\n  </", "\n</recollect_memories>") in _asked(llm)
    assert ctx.recorder.steps[-1].cited == ["topic"]


async def test_raw_turns_are_left_out_when_the_budget_is_used_up(store: MemoryStore) -> None:
    turns = await add(store, "My dog Timo ran off.", "Timo came back.", kind="episodic", prefix="t")
    topic = {"op": "add", "id": "topic", "text": "User's dog is Timo.", "tags": ("topic",), "metadata": {"turns": " ".join(turns)}}
    await store.apply(HOME, [MemoryWrite.model_validate(topic)])
    llm = engine(lambda prompt: "ok")
    await ask(agent("rmm", "default", memory_chars=55), request("What about Timo?"), context(llm, store))
    assert "[1] User's dog is Timo.\n    - user: My dog Timo ran off.\n</recollect" in _asked(llm)


async def test_what_the_conversation_holds_is_not_recalled(store: MemoryStore) -> None:
    await add(store, "My dog is Timo.", kind="episodic")
    llm = engine(lambda prompt: "ok")
    await ask(_rmm(), request(user("My dog is Timo."), assistant("Noted."), "What is my dog?"), context(llm, store))
    assert _asked(llm) == "What is my dog?"


async def test_it_learns_from_citations_after_the_answer(store: MemoryStore, tmp_path: Path) -> None:
    await add(store, *DOGS)
    ctx = _learning(context(engine(lambda prompt: "Timo [2]."), store), tmp_path / "r")
    asked = request("What is my dog called?")
    answer, _, _ = await ask(_rmm(shown=3), asked, ctx)
    assert _reranker(ctx).state.step == 0
    await _rmm(shown=3).remember(asked, answer, ctx)
    state = _reranker(ctx).state
    assert (state.step, state.learned) == (1, 1)
    cited = ctx.recorder.of_role("answerer")[0].cited[0]
    text = DOGS[int(cited[1:]) - 1]
    query, memory = await HashEmbedder().embed(["What is my dog called?", text])
    adapted = (query + state.weights.query @ query) @ (memory + state.weights.memory @ memory)
    assert adapted > query @ memory  # what was cited scores higher for this question now


@pytest.mark.parametrize(
    ("says", "limit", "learned"),
    [("Timo [1].", None, 1), ("I do not know. [none]", None, 1), ("I do not know.", None, 0), ("Timo [1], I think.", 10, 0)],
    ids=["cites", "says that it cites nothing", "says nothing about it", "cut off"],
)
async def test_only_an_answer_that_tells_what_was_of_use_is_learned_from(
    store: MemoryStore, tmp_path: Path, says: str, limit: int | None, learned: int
) -> None:
    await add(store, *DOGS)
    ctx = _learning(context(engine(lambda prompt: says), store), tmp_path / "r")
    asked = request("What is my dog called?", max_tokens=limit)
    answer, _, _ = await ask(_rmm(), asked, ctx)
    await _rmm().remember(asked, answer, ctx)
    assert _reranker(ctx).state.learned == learned


async def test_with_no_memory_no_choice_or_no_learner_nothing_is_learned(store: MemoryStore, tmp_path: Path) -> None:
    await add(store, *DOGS)
    off = request("What is my dog called?", use_memory=False)
    few = request("What is my dog called?")
    for asked, shown, ctx in (
        (off, 3, _learning(context(engine(lambda prompt: "ok [1]"), store), tmp_path / "r")),
        (few, 20, _learning(context(engine(lambda prompt: "ok [1]"), store), tmp_path / "r")),
        (few, 3, context(engine(lambda prompt: "ok [1]"), store)),
    ):
        answer, _, _ = await ask(_rmm(shown=shown), asked, ctx)
        await _rmm(shown=shown).remember(asked, answer, ctx)
    assert not list((tmp_path / "r").rglob("*.npz"))


async def test_without_an_embedder_the_search_decides(tmp_path: Path) -> None:
    store = LanceMemoryStore(tmp_path / "memory", None)
    await add(store, *DOGS)
    ctx = _learning(context(engine(lambda prompt: "Timo [1]."), store), tmp_path / "r")
    asked = request("Timo, the dog?")
    answer, _, _ = await ask(_rmm(shown=2), asked, ctx)
    await _rmm(shown=2).remember(asked, answer, ctx)
    (step,) = ctx.recorder.steps
    assert "m3" in [ref.id for ref in step.retrieved]
    assert len(step.retrieved) == 2
    await store.close()


async def test_memories_that_did_not_fit_the_window_earn_nothing(store: MemoryStore, tmp_path: Path) -> None:
    await add(store, *(f"User's dog number {i} is called {'x' * 60}{i}." for i in range(8)))
    llm = engine(lambda prompt: "ok [1]")
    asked = request("What is my dog called?")
    await ask(_rmm(shown=6), asked, context(llm, store))
    llm.window = len(llm.calls[0].prompt_ids)
    ctx = _learning(context(llm, store), tmp_path / "r", batch=4)
    answer, _, _ = await ask(_rmm(shown=6), asked, ctx)
    await _rmm(shown=6).remember(asked, answer, ctx)
    shown = ctx.recorder.of_role("answerer")[0].retrieved
    assert len(shown) < 6
    (sample,) = _reranker(ctx).state.pending
    assert len(sample.chosen) == len(shown)
    assert np.sort(sample.advantages).tolist() == [-1.5] * (len(shown) - 1) + [0.5]


async def test_the_users_turn_is_kept_and_the_answer_only_where_it_is_asked_for(store: MemoryStore) -> None:
    for keeps, kept in ((False, {"user"}), (True, {"user", "assistant"})):
        ctx = context(engine(lambda prompt: "ok"), store, trajectory_id=f"t-{keeps}")
        told = request(f"My dog is Timo {keeps}.")
        await _rmm(assistant=keeps).acknowledge(told, ctx)
        for _ in range(2):
            await _rmm(assistant=keeps).remember(told, "Noted.", ctx)
        written = [record for record in await store.list(HOME) if record.provenance.trajectory_id == f"t-{keeps}"]
        assert sorted(record.trust for record in written) == sorted(kept)
        assert all((record.kind, record.provenance.session) == ("episodic", "monday") for record in written)
