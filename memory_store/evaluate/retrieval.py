"""Evidence recall and reciprocal rank of a store's search: every turn is stored as a memory, every question is searched for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from memory_store.embedders.base import Embedder
from memory_store.evaluate.conversations import Conversation, Corpus, Question, Turn, writes
from memory_store.evaluate.crowd import strangers
from memory_store.store import LanceMemoryStore
from recollect.memory import Namespace, SearchMode
from recollect.model import Frozen
from recollect.stores import MemoryStore

DEPTH = 50
"""Results that are asked for; evidence further down counts as not found."""
CUTS = (1, 5, 10)
Advance = Callable[[str, int, int], None]
Ranked = tuple[Question, list[int]]
"""A question, and the ranks, from 1, at which its evidence was found."""


class Score(Frozen):
    """Means over questions. `recall[k]` is the part of a question's evidence among the first k results."""

    questions: int
    recall: dict[int, float] = Field(default_factory=dict[int, float])
    mrr: float = 0.0


class Evaluation(Frozen):
    """Scores by mode, then by category; `overall_name` is the category of several together."""

    format: str
    embedder: str | None
    conversations: int
    turns: int
    distractors: int
    """How many times as many turns of other conversations shared each namespace."""
    questions: int
    without_evidence: int
    """Questions left out of the scores, because none of their evidence names a turn."""
    unresolved_evidence: int
    overall_name: str
    scores: dict[SearchMode, dict[str, Score]]


async def evaluate(
    corpus: Corpus,
    embedder: Embedder | None,
    advance: Advance | None = None,
    *,
    context: bool = True,
    others: Sequence[Conversation] = (),
    times: Sequence[int] = (0,),
) -> list[Evaluation]:
    """Store and search in a temporary home. `advance(what, done, of)` is told of the progress. Without embedder, text alone.

    Without `context` turns are stored as turns of no session, and found by themselves alone. An evaluation for each of
    `times`, from the least: so many times as many turns of the other conversations, those of the corpus and `others`,
    then share the namespace. Raises InvalidRequest if there are too few.
    """
    modes: tuple[SearchMode, ...] = ("text", "dense", "hybrid") if embedder else ("text",)
    wanted = sorted(set(times))
    ranks: dict[int, dict[SearchMode, list[Ranked]]] = {time: {mode: [] for mode in modes} for time in wanted}
    total = len(corpus.conversations)
    with tempfile.TemporaryDirectory(prefix="recollect-eval-") as home:
        store = LanceMemoryStore(Path(home), embedder)
        try:
            for done, conversation in enumerate(corpus.conversations):
                if advance:
                    advance(conversation.name, done, total)
                namespace = Namespace(parts=(("user", f"{done}-{conversation.name}"[:256]),))
                await _remember(store, namespace, conversation.turns, context=context)
                rest = (*corpus.conversations[:done], *corpus.conversations[done + 1 :], *others)
                crowd, there = strangers(rest, len(conversation.turns) * wanted[-1]), 0
                for time in wanted:
                    await _remember(store, namespace, crowd[there : len(conversation.turns) * time], context=context)
                    there = len(conversation.turns) * time
                    for mode in modes:
                        ranks[time][mode] += await _ask(store, namespace, conversation, mode)
            if advance:
                advance("", total, total)
        finally:
            await store.close()
    return [_evaluation(corpus, embedder, time, found) for time, found in ranks.items()]


def _evaluation(corpus: Corpus, embedder: Embedder | None, times: int, ranks: Mapping[SearchMode, Sequence[Ranked]]) -> Evaluation:
    questions = [question for conversation in corpus.conversations for question in conversation.questions]
    return Evaluation(
        format=corpus.format,
        embedder=embedder.id if embedder else None,
        conversations=len(corpus.conversations),
        turns=sum(len(conversation.turns) for conversation in corpus.conversations),
        distractors=times,
        questions=len(questions),
        without_evidence=sum(not question.evidence for question in questions),
        unresolved_evidence=sum(question.unresolved for question in questions),
        overall_name=corpus.overall_name,
        scores={mode: _by_category(found, corpus) for mode, found in ranks.items()},
    )


async def _remember(store: MemoryStore, namespace: Namespace, turns: Sequence[Turn], *, context: bool) -> None:
    if turns:
        await store.apply(namespace, writes(turns, context=context))


async def _ask(store: MemoryStore, namespace: Namespace, conversation: Conversation, mode: SearchMode) -> list[Ranked]:
    """Each question that has evidence, in order."""
    found: list[Ranked] = []
    for question in conversation.questions:
        if question.evidence:
            hits = await store.search(namespace, question.text, limit=DEPTH, mode=mode)
            found.append((question, [rank for rank, hit in enumerate(hits, start=1) if hit.record.id in question.evidence]))
    return found


def _by_category(found: Sequence[Ranked], corpus: Corpus) -> dict[str, Score]:
    categories = sorted({question.category for question, _ in found})
    scores = {category: _score([item for item in found if item[0].category == category]) for category in categories}
    return scores | {corpus.overall_name: _score([item for item in found if item[0].category in corpus.overall])}


def _score(found: Sequence[Ranked]) -> Score:
    count = len(found)
    if not count:
        return Score(questions=0)
    recall = {k: sum(sum(rank <= k for rank in ranks) / len(question.evidence) for question, ranks in found) / count for k in CUTS}
    return Score(questions=count, recall=recall, mrr=sum(1 / ranks[0] if ranks else 0.0 for _, ranks in found) / count)
