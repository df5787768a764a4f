"""The label that an answer names first, as BABILong scores it (Kuratov et al. 2024, arXiv 2406.10149)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable


def first_label(answer: str, gold: Iterable[str], *, question: str, choices: Collection[str]) -> float:
    """1.0 if the first sentence of the answer names exactly the labels of one gold answer out of the closed set `choices`, else 0.0.

    Labels that the question names are never the answer and are passed over. A gold answer of several labels joins them by
    commas. Raises ValueError without `choices`.
    """
    if not choices:
        raise ValueError("choices is empty; give the task the closed set of labels that its answers come from")
    sentence = re.split(r"[.\n]", answer.strip(), maxsplit=1)[0]
    said = named(sentence, choices) - named(question, choices)
    return float(any(said == _labels(one) for one in gold))


def named(text: str, choices: Collection[str]) -> set[str]:
    """The labels that stand in a text as whole words, in lower case."""
    return {label for label in map(str.lower, choices) if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text.lower())}


def _labels(gold: str) -> set[str]:
    return {label.strip() for label in gold.lower().split(",") if label.strip()}
