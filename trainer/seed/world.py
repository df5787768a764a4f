"""A small invented world with open vocabulary: names, numbers and sentences drawn at random, so that a model must copy.

Every name and number belongs either to the training part or to the held-out part of the world, by a hash of its text:
values that evaluation asks for occur in no training text.
"""

from __future__ import annotations

import random
import zlib
from typing import Literal

Part = Literal["train", "held_out"]

# fmt: off
ONSETS = [
    "b", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z",
    "br", "dr", "gr", "kr", "st", "tr", "sh", "ch", "pl",
]
VOWELS = ["a", "e", "i", "o", "u", "ai", "ei", "ou"]
CODAS = ["", "", "", "n", "r", "l", "s", "k", "m", "t"]

NAMED = [
    "dog", "cat", "sister", "brother", "boss", "doctor", "teacher", "friend", "neighbour", "horse",
    "band", "team", "town", "street", "school", "hotel", "boat", "car",
]
NUMBERED = ["locker code", "room number", "bus number", "desk number", "door code", "seat number"]
# fmt: on
PLACE_NAMED = ["owner", "capital", "leader", "guard", "river", "baker"]
PLACE_NUMBERED = ["code", "price", "height", "year"]

NOISE = [
    "The bus to {p} was late again.",
    "I had soup with {p} for lunch.",
    "It rained in {p} all day.",
    "{p} told me a joke.",
    "Did you see the game in {p}?",
    "I am a bit tired today.",
    "Nice weather, is it not?",
    "I read {n} pages of a book.",
]
OTHERS = [
    "{p} says their {a} is {v}.",
    "The {a} of {p} is {v}.",
    "I met {p}, whose {a} is {v}.",
]
FILLER = [
    "{p} walked along the old road to {q}.",
    "The market in {p} was quiet that day.",
    "Nobody in {p} had heard of {q}.",
    "A letter from {p} arrived late.",
    "{p} and {q} talked for {n} hours.",
    "The bridge near {p} was closed.",
    "It was cold and {p} went home.",
]


def part_of(value: str) -> Part:
    """Which part of the world a name or number belongs to: one in five is held out."""
    return "held_out" if zlib.crc32(value.encode()) % 5 == 0 else "train"


class World:
    """Draws names, numbers and sentences of one part of the world from one random generator."""

    def __init__(self, rng: random.Random, part: Part = "train") -> None:
        self.rng = rng
        self.part: Part = part

    def name(self) -> str:
        """An invented proper name such as `Tarvo`."""
        rng = self.rng
        while True:
            syllables = [rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.choice((2, 2, 2, 2, 3)))]
            value = ("".join(syllables) + rng.choice(CODAS)).capitalize()
            if part_of(value) == self.part:
                return value

    def number(self) -> str:
        """A number of two to four digits."""
        while True:
            value = str(self.rng.randrange(10, 10 ** self.rng.choice((2, 3, 4))))
            if part_of(value) == self.part:
                return value

    def names(self, count: int) -> list[str]:
        """`count` different names."""
        found: dict[str, None] = {}
        while len(found) < count:
            found[self.name()] = None
        return list(found)

    def value_for(self, attribute: str, *, unlike: str = "") -> str:
        """A value that fits `attribute` and differs from `unlike`."""
        numbered = attribute in NUMBERED or attribute in PLACE_NUMBERED
        while True:
            value = self.number() if numbered else self.name()
            if value != unlike:
                return value

    def noise(self) -> str:
        """A user turn that states nothing to remember."""
        return self.rng.choice(NOISE).format(p=self.name(), n=self.number())

    def about_another(self, attribute: str) -> str:
        """A user turn that states `attribute` of somebody else: a distractor."""
        return self.rng.choice(OTHERS).format(p=self.name(), a=attribute, v=self.value_for(attribute))

    def filler(self) -> str:
        """A sentence of a document that states no fact that is asked for."""
        return self.rng.choice(FILLER).format(p=self.name(), q=self.name(), n=self.number())
