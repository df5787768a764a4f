"""What two answers are compared by, normalised as SQuAD's evaluation does (Rajpurkar et al. 2016)."""

from __future__ import annotations

import re
import string

_CITATION = re.compile(r"\s*\[\s*\d+(?:\s*,\s*\d+)*\s*\]")
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_BOX = "\\boxed{"
BOX_TAIL = 300
"""The box must begin within this many characters of the end (MemAgent's rule)."""


def without_citations(text: str) -> str:
    """The text without `[1]` or `[1, 2]` marks."""
    return _CITATION.sub("", text).strip()


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and repeated white space; a text of nothing else is kept, such as the grade `A`."""
    lower = text.lower()
    return " ".join(_ARTICLE.sub(" ", lower.translate(_PUNCTUATION)).split()) or lower.strip()


def boxed(text: str) -> str | None:
    """What stands in the last complete `\\boxed{...}` of the final 300 characters; None if there is none."""
    tail = text[-BOX_TAIL:]
    end = len(tail)
    while (start := tail.rfind(_BOX, 0, end)) >= 0:
        depth = 0
        for position in range(start + len(_BOX) - 1, len(tail)):
            depth += {"{": 1, "}": -1}.get(tail[position], 0)
            if depth == 0:
                return tail[start + len(_BOX) : position]
        end = start
    return None
