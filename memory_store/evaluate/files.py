"""Reads a file of conversations of the LoCoMo or the LongMemEval format."""

from __future__ import annotations

from pathlib import Path

from memory_store.evaluate.conversations import Corpus
from memory_store.evaluate.locomo import locomo
from memory_store.evaluate.longmemeval import longmemeval
from recollect.dataset_file import items
from recollect.errors import InvalidRequest


def read(path: Path) -> Corpus:
    """Read a file. Raises InvalidRequest that names the file and the field."""
    records = items(path, of="conversations")
    first = records[0]
    if isinstance(first, dict) and "conversation" in first:
        found = tuple(locomo(path, i, record) for i, record in enumerate(records))
        return Corpus("LoCoMo", found, frozenset("1234"), "1-4")
    if isinstance(first, dict) and "haystack_sessions" in first:
        found = tuple(longmemeval(path, i, record) for i, record in enumerate(records))
        return Corpus("LongMemEval", found, frozenset(q.category for c in found for q in c.questions), "all")
    raise InvalidRequest(
        f"{path}: the first element has neither 'conversation' (LoCoMo) nor 'haystack_sessions' (LongMemEval)",
        param="0",
    )
