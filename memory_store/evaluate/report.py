"""An evaluation as a table for a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table

from memory_store.evaluate.retrieval import CUTS, Evaluation

LOCOMO_CATEGORIES = {"1": "multi-hop", "2": "temporal", "3": "open-domain", "4": "single-hop", "5": "adversarial"}


def table(evaluation: Evaluation) -> Group:
    """One row per category and mode, and a line on what was left out."""
    crowd = f", {evaluation.distractors} times as many turns of others" if evaluation.distractors else ""
    shown = Table(title=f"Evidence retrieval, {evaluation.format} format, embedder {evaluation.embedder or 'none (text only)'}{crowd}")
    shown.add_column("category")
    shown.add_column("questions", justify="right")
    shown.add_column("mode")
    for name in (*(f"R@{k}" for k in CUTS), "MRR"):
        shown.add_column(name, justify="right")
    for category, first in next(iter(evaluation.scores.values())).items():
        for i, (mode, scores) in enumerate(evaluation.scores.items()):
            score = scores[category]
            head = (_title(evaluation, category), str(first.questions)) if i == 0 else ("", "")
            figures = [f"{score.recall[k]:.3f}" for k in CUTS] + [f"{score.mrr:.3f}"] if score.questions else ["-"] * (len(CUTS) + 1)
            shown.add_row(*head, mode, *figures, end_section=i == len(evaluation.scores) - 1)
    return Group(
        shown,
        f"{evaluation.conversations} conversations, {evaluation.turns} turns, {evaluation.questions} questions; "
        f"{evaluation.unresolved_evidence} evidence ids name no turn; "
        f"{evaluation.without_evidence} questions without evidence are left out.",
    )


def _title(evaluation: Evaluation, category: str) -> str:
    name = LOCOMO_CATEGORIES.get(category) if evaluation.format == "LoCoMo" else None
    return f"{category} {name}" if name else category
