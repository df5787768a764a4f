"""Needles in a haystack: RULER's eight retrieval tasks (arXiv 2404.06654, section 3; NVIDIA/RULER `niah.py`, `synthetic.yaml`)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from trainer.environments.longcontext import words
from trainer.environments.longcontext.sample import Sample

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NEEDLE = "One of the special magic {kind} for {key} is: {value}."
ASKED = "What are all the special magic {kind} for {query} mentioned in the provided text?"
INTRO = "Some special magic {kind} are hidden within the following text."
ASKED_ONE = "What is the special magic {kind} for {query} mentioned in the provided text?"
INTRO_ONE = "A special magic {kind} is hidden within the following text."
QUIZ = "Make sure to memorize it. I will quiz you about the {kind} afterwards."
DEPTHS = 40
"""A needle in essays lies at one of so many even depths."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_DRAWS: dict[str, Callable[[random.Random], str]] = {"words": words.word, "numbers": words.number, "uuids": words.identifier}


class NiahForm(NamedTuple):
    """What the haystack is, what keys and values are, and how many needles there are, of how many values, how many asked for."""

    haystack: Literal["noise", "essay", "needle"]
    keys: Literal["words", "uuids"] = "words"
    values: Literal["numbers", "uuids"] = "numbers"
    num_keys: int = 1
    num_values: int = 1
    num_queries: int = 1


FORMS = {
    "niah_single_1": NiahForm("noise"),
    "niah_single_2": NiahForm("essay"),
    "niah_single_3": NiahForm("essay", values="uuids"),
    "niah_multikey_1": NiahForm("essay", num_keys=4),
    "niah_multikey_2": NiahForm("needle"),
    "niah_multikey_3": NiahForm("needle", keys="uuids", values="uuids"),
    "niah_multivalue": NiahForm("essay", num_values=4),
    "niah_multiquery": NiahForm("essay", num_queries=4),
}


def niah(form: NiahForm, seed: str, units: int, essay: Sequence[str] = ()) -> Sample:
    """A sample with `units` haystack units: lines of noise, needles of other keys, or words of the essay (repeated if it ends)."""
    rng = random.Random(seed)
    keys = words.different(_DRAWS[form.keys], rng, max(form.num_keys, form.num_queries))
    values = words.different(_DRAWS[form.values], rng, len(keys) * form.num_values)
    needles = [
        (key, value, NEEDLE.format(kind=form.values, key=key, value=value))
        for number, key in enumerate(keys)
        for value in values[number * form.num_values : (number + 1) * form.num_values]
    ]
    asked = rng.sample(keys, form.num_queries)
    lines = [needle for _, _, needle in needles]
    rng.shuffle(lines)
    context = _hidden(lines, _haystack(form, rng, units, essay, set(keys)), rng, essay=form.haystack == "essay")
    one = form.num_queries * form.num_values == 1
    kind = form.values.removesuffix("s") if one else form.values
    query = asked[0] if len(asked) == 1 else f"{', '.join(asked[:-1])}, and {asked[-1]}"
    return Sample(
        document=f"{INTRO_ONE if one else INTRO} {QUIZ}".format(kind=kind) + f"\n{context}",
        question=(ASKED_ONE if one else ASKED).format(kind=kind, query=query),
        gold=tuple(value for wanted in asked for key, value, _ in needles if key == wanted),
        evidence=tuple(needle for key, _, needle in needles if key in asked),
    )


def _haystack(form: NiahForm, rng: random.Random, units: int, essay: Sequence[str], taken: set[str]) -> list[str]:
    if form.haystack == "noise":
        return [NOISE] * units
    if form.haystack == "essay":
        return _SENTENCE_END.split(" ".join(essay[i % len(essay)] for i in range(units)))
    lines: list[str] = []
    while len(lines) < units:
        key = _DRAWS[form.keys](rng)
        if key not in taken:
            lines.append(NEEDLE.format(kind=form.values, key=key, value=_DRAWS[form.values](rng)))
    return lines


def _hidden(needles: Sequence[str], haystack: list[str], rng: random.Random, *, essay: bool) -> str:
    """The needles among the haystack: in essays at even depths, else anywhere."""
    if essay:
        depths = sorted(rng.sample(range(DEPTHS), len(needles)))
        places = [round(len(haystack) * depth / (DEPTHS - 1)) for depth in depths]
    else:
        places = sorted(rng.randrange(len(haystack) + 1) for _ in needles)
    hidden = list(haystack)
    for place, needle in reversed(list(zip(places, needles, strict=True))):
        hidden.insert(place, needle)
    return (" " if essay else "\n").join(hidden)
