"""Made sentences as people say them of themselves and theirs, and questions about them: for what is measured with a real embedder."""

from __future__ import annotations

import random

SAID = (
    "My {relation} {name} moved to {place} in {month} {year} and works there as a {job}.",
    "{name} is allergic to {food}, so we never order it when {name} comes to {place}.",
    "I met {name} at the {thing} course in {place}; we have been friends since {month} {year}.",
    "Our {pet} {name} had to see the vet in {month} because it had eaten {food}.",
    "Please remember that the meeting with {name} about the {thing} is on the {day}th of {month} at {hour}.",
    "I would like to learn {skill} before my trip to {place} in {month} {year}.",
    "{name}, my {relation}, gave me a {thing} for my birthday and I still have not used it.",
    "On the {day}th of {month} I am flying to {place} with my {relation} to see {name} play the {instrument}.",
    "The {job} who mended our {thing} is called {name} and charges {hour} euros an hour.",
    "I stopped drinking coffee in {month} {year}; now it is {food} with tea at {hour} o'clock.",
    "For the party at {name}'s place in {place} I promised to bring {food} for {day} people.",
    "My knee has hurt since I ran in {place} in {month}, and {name} told me to try {skill} instead.",
)
ASKED = (
    "Do you remember what I told you about {name} and the {thing}?",
    "Who was it that went to {place} in {month} {year}?",
    "What should I cook when {name} visits us from {place}, given what you know?",
    "When did my {relation} {name} begin with {skill}, and where?",
    "Which {job} did we call about the {thing} in {month}?",
    "Can you help me plan the {day}th of {month} with {name}?",
)
WORDS = {
    "name": "Ada Bruno Chiara Dmitri Elif Farid Greta Hanna Igor Jonas Kenji Leila Marta Nils Olga Pablo Quentin Rosa Sofia Tariq Uma Vera "
    "Wanda Ximena Yusuf Zoe Amara Bela Caro Dana Emil Flora Gil Hugo Ines Jana Kofi Luca Mina Noor",
    "place": "Lisbon Oslo Porto Krakow Ghent Turin Lyon Graz Bergen Malmo Riga Vilnius Tartu Bilbao Seville Naples Athens Dublin Cork "
    "Bristol Leeds Utrecht Basel Trieste Zagreb Split Varna Brno Pecs",
    "month": "January February March April May June July August September October November December",
    "year": "2016 2017 2018 2019 2020 2021 2022 2023 2024 2025",
    "job": "nurse carpenter teacher plumber lawyer baker florist pilot gardener dentist translator electrician",
    "food": "peanuts shellfish mushrooms lentils cheesecake aubergines walnuts dumplings rhubarb oysters pancakes anchovies",
    "relation": "sister brother cousin aunt uncle neighbour colleague daughter nephew grandmother",
    "pet": "dog cat parrot tortoise rabbit ferret",
    "thing": "boiler bicycle pottery camera sailing telescope piano garden roof tax tent printer",
    "skill": "swimming Portuguese knitting yoga archery juggling carving Welsh rowing calligraphy",
    "instrument": "cello flute accordion trumpet harp oboe",
}
CHOICES = {kind: words.split() for kind, words in WORDS.items()}


def statements(count: int, seed: int | str = 0) -> list[str]:
    """`count` different sentences."""
    return _made(SAID, count, random.Random(f"{seed} said"))


def questions(count: int, seed: int | str = 0) -> list[str]:
    """`count` different questions."""
    return _made(ASKED, count, random.Random(f"{seed} asked"))


def _made(patterns: tuple[str, ...], count: int, rng: random.Random) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        words = {kind: rng.choice(choices) for kind, choices in CHOICES.items()}
        found[rng.choice(patterns).format(**words, day=rng.randint(4, 20), hour=rng.randint(7, 95))] = None
    return list(found)
