"""Secrets in memories: detect-secrets' detectors, each asked for single strings, and one for passwords told in a sentence.

The detectors are called themselves, and not `scan_line`: that one keeps its settings in globals, which threads share, and
may call the services that a key is for, to verify it. Nothing here leaves the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Protocol, cast

from recollect.audit import SecretFound
from recollect.memory import MemoryRecord

_NO_SECRET = frozenset(("Public IP (ipv4)",))
_KEYWORDS = re.compile(r"key|pass|pwd|secret|contrase", re.I)
"""One of them is in whatever the detector of keywords finds, which is the slowest of all."""
_TOLD = re.compile(
    r"\b(?:pass(?:word|phrase|code)|pwd|api[ _-]?key|access[ _-]?key|(?:access|auth|api)[ _-]token)\b"
    r"(?:\s+(?:for|of|to|on)\s+[^.\n:=]{1,40}?)?\s*(?:\bis\b|\bwas\b|=|:)\s*[\"'`]?(?P<value>[^\s\"'`]{6,})",
    re.I,
)
_PIN = re.compile(r"\bpin(?:\s+code)?(?:\s+(?:for|of|to|on)\s+[^.\n:=]{1,40}?)?\s*(?:\bis\b|=|:)\s*[\"'`]?\d{4,8}\b", re.I)
_DIGIT_OR_SIGN = re.compile(r"[\d!@#$%^&*+=?]")
TOLD, PIN = "Password in a sentence", "PIN in a sentence"


class Detector(Protocol):
    """One of detect-secrets' plugins."""

    secret_type: str

    def analyze_string(self, string: str) -> Iterable[str]: ...


def secrets_in(record: MemoryRecord) -> tuple[set[str], set[str]]:
    """The kinds of secrets that a version holds, and the places: its text, its tags, values of its metadata."""
    fields = {"text": record.text, "tags": "\n".join(record.tags)}
    fields |= {f"metadata.{name}": f'{name}: "{value}"' for name, value in record.metadata.items() if isinstance(value, str)}
    found = {place: set(kinds_in(text)) for place, text in fields.items() if text}
    return {kind for kinds in found.values() for kind in kinds}, {place for place, kinds in found.items() if kinds}


def kinds_in(text: str) -> Iterator[str]:
    """The kinds of secrets in a text, as the detectors name them."""
    for line in text.splitlines():  # the detectors are made for lines
        keywords = _KEYWORDS.search(line) is not None
        for detector in _detectors():
            if detector.secret_type == "Secret Keyword" and not keywords:
                continue
            if any(_is_secret(detector, value) for value in detector.analyze_string(line)):
                yield detector.secret_type
        if any(_DIGIT_OR_SIGN.search(match["value"].rstrip(".,;")) for match in _TOLD.finditer(line)):
            yield TOLD
        if _PIN.search(line):
            yield PIN


def secrets(versions: Sequence[MemoryRecord]) -> list[SecretFound]:
    """The memories of which one version, current or not, holds a secret, in the order of their first versions."""
    kinds: dict[str, set[str]] = {}
    places: dict[str, set[str]] = {}
    holding: dict[str, int] = {}
    current: set[str] = set()
    for version in versions:
        found, where = secrets_in(version)
        if not found:
            continue
        kinds.setdefault(version.id, set()).update(found)
        places.setdefault(version.id, set()).update(where)
        holding[version.id] = holding.get(version.id, 0) + 1
        if version.seq_to is None:
            current.add(version.id)
    return [
        SecretFound(id=i, kinds=tuple(sorted(found)), places=tuple(sorted(places[i])), versions=holding[i], current=i in current)
        for i, found in kinds.items()
    ]


def _is_secret(detector: Detector, value: str) -> bool:
    """Whether a match is more than a placeholder, a count or an id."""
    from detect_secrets.filters import heuristic as looks

    limit: float | None = getattr(detector, "entropy_limit", None)
    if limit is not None and cast("Any", detector).calculate_shannon_entropy(value) <= limit:
        return False
    return not (
        looks.is_sequential_string(value)
        or looks.is_potential_uuid(value)
        or looks.is_templated_secret(value)
        or looks.is_prefixed_with_dollar_sign(value)
        or (looks.is_not_alphanumeric_string(value) and detector.secret_type != "Private Key")
    )


@cache
def _detectors() -> tuple[Detector, ...]:
    """Imported with the first audit: it takes a fifth of a second."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    known = cast("dict[str, Any]", get_mapping_from_secret_type_to_class())
    return tuple(plugin() for name, plugin in known.items() if name not in _NO_SECRET)
