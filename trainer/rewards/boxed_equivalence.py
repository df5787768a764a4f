"""Equivalence of a boxed answer with gold, as MemAgent rewards it (arXiv 2507.02259): the last box of the final 300 characters.

Both sides are brought to one spelling as mathematical answers usually are (Hendrycks et al. 2021, MATH); numbers are
compared by value, so that 0.50, .5, 1/2 and \\frac12 are one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

from recollect.normalised import BOX_TAIL, boxed

_DROPPED = re.compile(r"\\!|\\,|\\;|\\left|\\right|\^\{?\\circ\}?|\\circ|°|\\?\$|\\?%")
_UNIT = re.compile(r"(?<=[\d}.])\s*\\(?:text|mathrm|mbox)\s*\{[^{}]*\}(?:\^\{?\d\}?)?$")
_WORDS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_NAME = re.compile(r"^[a-z]\w?\s*=\s*")
_FRACTION = re.compile(r"\\frac(?:\{([^{}]*)\}|(\d))(?:\{([^{}]*)\}|(\d))")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
_NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:/[1-9]\d*)?")


def boxed_equivalence(answer: str, gold: Iterable[str]) -> float:
    """1.0 if what the answer's last box holds is equivalent to a gold answer, else 0.0; without a box 0.0."""
    inside = boxed(answer)
    if inside is None:
        return 0.0
    said = spelled(inside)
    return float(any(said == spelled(one) for one in gold))


def spelled(text: str) -> str:
    """The text in lower case without spaces, degrees, units after a number and marks of layout; a number as a fraction in lowest terms.

    Digits with a leading zero are a code and not a number: they keep it.
    """
    plain = " ".join(text.lower().replace("\\\\", "\\").replace("tfrac", "frac").replace("dfrac", "frac").split())
    plain = _DROPPED.sub("", _UNIT.sub("", plain))
    plain = _NAME.sub("", _WORDS.sub(r"\1", plain).strip())
    plain = _FRACTION.sub(_quotient, plain.replace(" ", "")).rstrip(".")
    if _THOUSANDS.fullmatch(plain):
        plain = plain.replace(",", "")
    # What is longer than any box is no number to compare, and Python refuses to read one of thousands of digits.
    return str(_value(plain)) if len(plain) <= BOX_TAIL and _NUMBER.fullmatch(plain) else plain


def _quotient(found: re.Match[str]) -> str:
    return f"{found[1] or found[2] or ''}/{found[3] or found[4] or ''}"


def _value(number: str) -> Fraction:
    numerator, _, denominator = number.partition("/")
    return Fraction(numerator) / Fraction(denominator or 1)
