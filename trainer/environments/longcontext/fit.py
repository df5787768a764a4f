"""How much fits: contexts are filled with as many units (sentences, words, documents) as a wanted number of tokens holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tokenizers import Tokenizer

from recollect.errors import ConfigurationError, InvalidRequest

Length = Callable[[str], int]
"""Counts the tokens of a text."""
ENOUGH = 0.99
"""A context that fills this part of its tokens is not filled further: every count reads the whole context."""
PROBE = 16
MISSES = 50


def counter(path: Path) -> Length:
    """Counts with the tokenizer of a `tokenizer.json`, or of the folder of one. Raises ConfigurationError."""
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as exc:  # tokenizers raises plain Exception
        raise ConfigurationError(f"{file} is no tokenizer: {exc}; name a tokenizer.json or its folder", param="tokenizer") from exc
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def most_that_fits(size: Callable[[int], int], limit: int) -> int:
    """The number of units whose `size` in tokens is at most `limit` and near it: at 99 %, or one more would not fit.

    `size` grows about evenly with the number of units; a few calls suffice. Raises InvalidRequest if none fits.
    """
    fixed = size(0)
    if fixed > limit:
        raise InvalidRequest(f"length {limit} is too short: the text around the context takes {fixed} tokens already", param="length")
    low, high, units = 0, None, PROBE
    while high is None or high - low > 1:
        used = size(units)
        if ENOUGH * limit <= used <= limit:
            return units
        if used == fixed and units > limit:
            raise InvalidRequest("`length` counts as many tokens with a context as without one", param="length")
        low, high = (low, units) if used > limit else (units, high)
        aimed = int(units * (limit * (1 + ENOUGH) / 2 - fixed) / (used - fixed)) if used > fixed else 2 * units
        units = max(low + 1, aimed if high is None else min(aimed, high - 1))
    return low


def fill(sizes: Iterable[int], room: int, *, at_most: int | None = None) -> list[int]:
    """The places of those units, taken in order, that fit `room` tokens together; one that is too long is passed over.

    After 50 in a row that are too long the rest is not looked at: to count a whole file's tokens for each question is slow.
    """
    taken: list[int] = []
    missed = 0
    for place, size in enumerate(sizes):
        if missed == MISSES or len(taken) == at_most:
            break
        if size <= room:
            taken.append(place)
            room -= size
            missed = 0
        else:
            missed += 1
    return taken
