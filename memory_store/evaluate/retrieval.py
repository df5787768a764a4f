"""Evidence recall and reciprocal rank of a store's search: every turn is stored as a memory, every question is searched for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field

from memory_store.embedders.base import Embedder
from memory_store.evaluate.conversations import Conversation, Corpus, Question
from memory_store.store import LanceMemoryStore
from recollect.memory import MemoryWrite, Namespace, Provenance, SearchMode
from recollect.model import Frozen
from recollect.stores import MemoryStore

DEPTH = 50
"""Results that are asked for; evidence further down counts as not found."""
CUTS = (1, 5, 10)
Advance = Callable[[str, int, int], None]


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
    questions: int
    without_evidence: int
    """Questions left out of the scores, because none of their evidence names a turn."""
    unresolved_evidence: int
    overall_name: str
    scores: dict[SearchMode, dict[str, Score]]


async def evaluate(corpus: Corpus, embedder: Embedder | None, advance: Advance | None = None, *, context: bool = True) -> Evaluation:
    """Store and search in a temporary home. `advance(what, done, of)` is told of the progress. Without embedder, text alone.

    Without `context` turns are stored as turns of no session, and found by themselves alone.
    """
    modes: tuple[SearchMode, ...] = ("text", "dense", "hybrid") if embedder else ("text",)
    ranks: dict[SearchMode, list[tuple[Question, list[int]]]] = {mode: [] for mode in modes}
    total = len(corpus.conversations)
    with tempfile.TemporaryDirectory(prefix="recollect-eval-") as home:
        store = LanceMemoryStore(Path(home), embedder)
        try:
            for done, conversation in enumerate(corpus.conversations):
                if advance:
                    advance(conversation.name, done, total)
                namespace = Namespace(parts=(("user", f"{done}-{conversation.name}"[:256]),))
                await _remember(store, namespace, conversation, context=context)
                for mode in modes:
                    ranks[mode] += await _ask(store, namespace, conversation, mode)
            if advance:
                advance("", total, total)
        finally:
            await store.close()
    questions = [question for conversation in corpus.conversations for question in conversation.questions]
    return Evaluation(
        format=corpus.format,
        embedder=embedder.id if embedder else None,
        conversations=total,
        turns=sum(len(conversation.turns) for conversation in corpus.conversations),
        questions=len(questions),
        without_evidence=sum(not question.evidence for question in questions),
        unresolved_evidence=sum(question.unresolved for question in questions),
        overall_name=corpus.overall_name,
        scores={mode: _by_category(found, corpus) for mode, found in ranks.items()},
    )


async def _remember(store: MemoryStore, namespace: Namespace, conversation: Conversation, *, context: bool) -> None:
    writes = [
        MemoryWrite(
            op="add",
            id=turn.id,
            text=turn.text,
            kind="episodic",
            valid_at=turn.at,
            provenance=Provenance(channel="import", session=turn.session if context else None),
        )
        for turn in conversation.turns
    ]
    await store.apply(namespace, writes)


async def _ask(store: MemoryStore, namespace: Namespace, conversation: Conversation, mode: SearchMode) -> list[tuple[Question, list[int]]]:
    """Each question with the ranks, from 1, at which its evidence was found."""
    found: list[tuple[Question, list[int]]] = []
    for question in conversation.questions:
        if question.evidence:
            hits = await store.search(namespace, question.text, limit=DEPTH, mode=mode)
            found.append((question, [rank for rank, hit in enumerate(hits, start=1) if hit.record.id in question.evidence]))
    return found


def _by_category(found: Sequence[tuple[Question, list[int]]], corpus: Corpus) -> dict[str, Score]:
    categories = sorted({question.category for question, _ in found})
    scores = {category: _score([item for item in found if item[0].category == category]) for category in categories}
    return scores | {corpus.overall_name: _score([item for item in found if item[0].category in corpus.overall])}


def _score(found: Sequence[tuple[Question, list[int]]]) -> Score:
    count = len(found)
    if not count:
        return Score(questions=0)
    recall = {k: sum(sum(rank <= k for rank in ranks) / len(question.evidence) for question, ranks in found) / count for k in CUTS}
    return Score(questions=count, recall=recall, mrr=sum(1 / ranks[0] if ranks else 0.0 for _, ranks in found) / count)
