"""RMM (arXiv 2503.08026) as its paper has it, with the hyper-parameters that are the defaults, on recorded steps and saved samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from cases import HOME, add, agent, ask, context, engine, request

from memory_store.embedders.hash import HashEmbedder
from recollect.memory import MemoryWrite
from recollect.settings import RmmSettings
from recollect.stores import MemoryStore
from server.agents.base import AgentContext
from server.agents.rmm.online import OnlineReranker
from server.agents.rmm.rerankers import Rerankers
from server.agents.rmm.scoring import Weights, best, noise, scores, updated

QUESTION = "Which dog is called what?"
DOGS = [f"User's dog number {number} is called Timo{number}." for number in range(25)]


def _reranker(rerankers: Rerankers) -> OnlineReranker:
    return rerankers.of("local", HashEmbedder().id, HashEmbedder().dimension)


async def _answered(store: MemoryStore, rerankers: Rerankers, name: str, says: str = "Timo [2].") -> AgentContext:
    """A request and what follows it, with the settings as they come."""
    ctx = replace(context(engine(lambda prompt: says, window=None), store, name), rerankers=rerankers)
    rmm, asked = agent("rmm", "default"), request(QUESTION)
    answer, _, _ = await ask(rmm, asked, ctx)
    await rmm.remember(asked, answer, ctx)
    return ctx


def test_the_hyper_parameters_are_the_papers() -> None:
    found = RmmSettings()
    assert (found.candidates, found.shown, found.temperature, found.baseline) == (20, 5, 0.5, 0.5)
    assert (found.learning_rate, found.batch) == (1e-3, 4)


async def test_of_20_candidates_5_are_shown_and_one_call_answers_with_citations(store: MemoryStore, tmp_path: Path) -> None:
    await add(store, *DOGS)
    ctx = await _answered(store, Rerankers(tmp_path, RmmSettings()), "t1")
    ranked, answered = ctx.recorder.steps
    assert (len(ranked.retrieved), ranked.policy, len(answered.retrieved)) == (20, None, 5)
    assert answered.cited == [answered.retrieved[1].id]
    assert "[none]" in answered.messages[-1].content


async def test_while_it_learns_the_choice_is_the_greatest_score_plus_gumbel_noise_and_afterwards_the_greatest_score(
    store: MemoryStore, tmp_path: Path
) -> None:
    await add(store, *DOGS)
    for settings, noisy in ((RmmSettings(), True), (RmmSettings(learn=False), False)):
        ctx = await _answered(store, Rerankers(tmp_path / str(noisy), settings), "t1")
        ranked, answered = ctx.recorder.steps
        plain = np.array([ref.score for ref in ranked.retrieved], np.float64)
        (query,) = await HashEmbedder().embed([QUESTION])
        drawn = plain + noise(0, 0, query, 20) if noisy else plain
        assert {ref.id for ref in answered.retrieved} == {ranked.retrieved[place].id for place in best(drawn, 5)}
        assert noisy == (set(best(drawn, 5)) != set(best(plain, 5)))


async def test_cited_is_plus_one_and_not_cited_minus_one_less_the_baseline_and_four_answers_make_an_update(
    store: MemoryStore, tmp_path: Path
) -> None:
    await add(store, *DOGS)
    rerankers = Rerankers(tmp_path, RmmSettings())
    for number in range(3):
        await _answered(store, rerankers, f"t{number}")
    waiting = _reranker(rerankers).state.pending
    assert [sorted(sample.advantages) for sample in waiting] == [[-1.5] * 4 + [0.5]] * 3
    assert _reranker(rerankers).state.step == 0
    ctx = await _answered(store, rerankers, "t3", "I do not know. [none]")
    state = _reranker(rerankers).state
    assert (state.step, state.pending) == (1, ())
    query, *memories = await HashEmbedder().embed([QUESTION, *(await _texts(store, ctx))])
    drawn = noise(0, 3, query, 20)
    chosen = best(scores(Weights.identity(len(query)), query, np.array(memories)) + drawn, 5)
    last = replace(waiting[0], query=query, memories=np.array(memories), noise=drawn, chosen=chosen, advantages=np.full(5, -1.5))
    expected = updated(Weights.identity(len(query)), [*waiting, last], temperature=0.5, learning_rate=1e-3)
    assert np.allclose(state.weights.query, expected.query, atol=1e-6)
    assert np.allclose(state.weights.memory, expected.memory, atol=1e-6)
    assert np.abs(state.weights.query).max() > 0


async def test_the_answer_is_cited_from_summaries_with_their_raw_turns(store: MemoryStore, tmp_path: Path) -> None:
    await store.apply(HOME, [MemoryWrite(op="add", id="turn", text="Timo ate my shoe.", kind="episodic", trust="user")])
    topic = MemoryWrite(op="add", id="topic", text="User's dog eats shoes.", tags=("topic",), metadata={"turns": "turn"}, trust="user")
    await store.apply(HOME, [topic])
    ctx = await _answered(store, Rerankers(tmp_path, RmmSettings()), "t1", "Shoes [1].")
    (answered,) = ctx.recorder.of_role("answerer")
    assert "[1] User's dog eats shoes.\n    - user: Timo ate my shoe." in answered.messages[-1].content
    assert answered.cited == ["topic"]


async def _texts(store: MemoryStore, ctx: AgentContext) -> list[str]:
    """The texts of the candidates, in the order in which they were scored."""
    found = [await store.get(HOME, ref.id) for ref in ctx.recorder.of_role("reranker")[0].retrieved]
    return [record.text for record in found if record is not None]
