"""A short English fact as the words that carry it: its subject first, synonyms and numbers in one form, negation apart.

It is made to compare facts with each other. Nothing is parsed: lists of words say what a relation, a negation or a date is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from memory_store.terms import stem

_TOKEN = re.compile(r"\d[\w.,:/%-]*\w|[^\W_]+(?:-[^\W_]+)*")
_MOVED_FROM = re.compile(r"\b(mov\w+|relocat\w+)\s+(?:\w+\s+)?from\s+[^.;]{1,60}?\s+to\b")
_INTRODUCES = re.compile(r"\b(?:an?|another|one of)\b[^.;]{0,40}\b(?:called|named)\b")
_NOT_NOW = re.compile(r"\b(?:used to|formerly|previously|former|lived|worked|resided|was|were|had|until|ago)\b")
_DROPPED = frozenset(
    """
    a an the in at on to into of for by do does did ca wo now currently still recently just also actually really very quite
    already today presently nowadays that this he she it they him her his their its longer anymore more any
    """.split()  # noqa: SIM905 - a list of quoted words is harder to read
)
_NEGATIONS = frozenset(("not", "no", "never", "cannot", "without", "stopped", "quit"))
_SYNONYMS = {
    **dict.fromkeys(("i", "me", "my", "mine", "myself"), "user"),
    **dict.fromkeys(("am", "is", "are", "was", "were", "been", "being"), "be"),
    **dict.fromkeys(("has", "had", "having"), "have"),
    **dict.fromkeys(("reside", "resides", "resided", "residing", "move", "moved", "moves", "moving", "relocated", "based"), "live"),
    **dict.fromkeys(("living", "lived", "lives"), "live"),
    **dict.fromkeys(("employed", "working", "works", "worked"), "work"),
    **dict.fromkeys(("love", "loves", "loved", "enjoy", "enjoys", "adore", "adores", "likes", "liked"), "like"),
    **dict.fromkeys(("dislike", "dislikes", "hate", "hates", "detest", "detests"), "dislike"),
    **dict.fromkeys(("favorite", "favourites", "favorites"), "favourite"),
    **dict.fromkeys(("once", "single"), "1"),
}
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        """
        zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
        nineteen twenty
        """.split()  # noqa: SIM905
    )
} | {"thirty": "30", "forty": "40", "fifty": "50", "hundred": "100", "thousand": "1000"}
_DATES = frozenset(
    stem(word)
    for word in """
    monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september
    october november december spring summer autumn winter tomorrow yesterday
    """.split()  # noqa: SIM905
)
_YEAR = re.compile(r"(?:19|20)\d\d(?:-\d\d)*|\d+(?:st|nd|rd|th)")


@dataclass(frozen=True, slots=True)
class Statement:
    """What one text says. `words` without the negation, which is told by `negated`."""

    words: tuple[str, ...]
    negated: bool
    past: bool
    """It tells of what was."""
    introduces: bool
    """It names one of several ("a dog called Rex"): another name is another dog."""

    @property
    def numbers(self) -> list[str]:
        """Its numbers and dates, sorted."""
        return sorted(word for word in self.words if is_number(word) or is_date(word))


def statement(text: str) -> Statement:
    """What a text says."""
    lower = text.lower().replace("’", "'")
    plain = re.sub(r"n't\b", " not", lower)
    plain = re.sub(r"'(?:m|re)\b", " be", re.sub(r"'(?:s|ve|ll|d)\b|(?<=s)'(?=\s)", "", plain))
    plain = _MOVED_FROM.sub("live to", plain)
    words: list[str] = []
    negated = False
    for token in _TOKEN.findall(plain):
        word = _SYNONYMS.get(token) or _NUMBERS.get(token) or token
        if word in _NEGATIONS or word == "dislike":
            negated = not negated
            word = "like" if word == "dislike" else ""
        if word in _DROPPED or not word:
            continue
        if word in ("live", "work") and words[-1:] == ["be"]:
            words.pop()
        words.append(word if word in ("user", "be", "live", "work", "like") else stem(word))
    return Statement(tuple(words), negated, bool(_NOT_NOW.search(plain)), bool(_INTRODUCES.search(plain)))


def is_number(word: str) -> bool:
    """Whether a word of a statement is a number that is no date."""
    return word[0].isdigit() and not _YEAR.fullmatch(word)


def is_date(word: str) -> bool:
    """Whether a word of a statement is part of a date."""
    return word in _DATES or bool(_YEAR.fullmatch(word))
