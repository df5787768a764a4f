"""The words that full text search compares: folded, stemmed, without stop words; pairs of characters where no blanks are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

MAX_TERM = 40
MAX_QUERY_TERMS = 256
_ACCENT = 200
_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
STOP_WORDS = frozenset(
    """
    a an and are as at be but by did do does for had has have he her his how i if in into is it its me my no not of on or our
    she so such s t than that the their them then there these they this to was we were what when where which who whom whose
    why will with would you your
    """.split()  # noqa: SIM905 - a list of 80 quoted words is harder to read
)


def terms_of(text: str) -> Iterator[str]:
    """The terms of a text, in order, repeated as often as they occur."""
    for match in _WORD.finditer(_folded(text.lower())):
        word = match.group()
        if word.isascii():
            if word not in STOP_WORDS:
                yield stem(word[:MAX_TERM])
        else:
            yield from _unspaced(word)


def _folded(text: str) -> str:
    """Letters without accents. Marks of a low class (Japanese, Indic) are part of the letter and stay."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", "".join(c for c in unicodedata.normalize("NFKD", text) if unicodedata.combining(c) < _ACCENT))


def query_terms(text: str) -> list[str]:
    """The distinct terms of a query, at most 256."""
    return list(dict.fromkeys(terms_of(text)))[:MAX_QUERY_TERMS]


def _unspaced(word: str) -> Iterator[str]:
    """Scripts without blanks are cut into overlapping pairs of characters, the rest of the word stays whole."""
    end = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > end:
            yield word[end : run.start()][:MAX_TERM]
        characters = run.group()
        yield from (characters[i : i + 2] for i in range(max(1, len(characters) - 1)))
        end = run.end()
    if end < len(word):
        yield word[end:][:MAX_TERM]


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """An English word without its inflection, by the first step of Porter's algorithm (1980): plural, -ed, -ing, -y."""
    if len(word) <= 3 or not word.isalpha():
        return word
    word = _singular(word)
    if word.endswith("eed"):
        return word[:-1] if _VOWEL_CONSONANT.search(word[:-3]) else word
    for suffix in ("ed", "ing"):
        if word.endswith(suffix) and _VOWEL.search(word[: -len(suffix)]):
            word = _repaired(word[: -len(suffix)])
            break
    return word[:-1] + "i" if word.endswith("y") and _VOWEL.search(word[:-1]) else word


_VOWEL = re.compile(r"[aeiou]|(?<=[^aeiou])y")
_VOWEL_CONSONANT = re.compile(r"[aeiouy][^aeiouy]")
_SHORT = re.compile(r"^[^aeiou]+[aeiouy][^aeiouwxy]$")
_DOUBLE = re.compile(r"([^aeioulsz])\1$")


def _singular(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _repaired(word: str) -> str:
    """A stem that lost -ed or -ing: `hop(p)`, `mak(e)`."""
    if word.endswith(("at", "bl", "iz")) or _SHORT.match(word):
        return word + "e"
    return word[:-1] if _DOUBLE.search(word) else word
