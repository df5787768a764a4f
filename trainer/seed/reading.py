"""Supervised samples of recurrent reading: (question, memory, section) to a new memory, (question, memory) to a boxed answer.

The documents here are also those of the generated reading tasks (trainer/environments/generated.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from server.agents.prompts import load_prompt
from trainer.seed.dialogue import Sample
from trainer.seed.world import PLACE_NAMED, PLACE_NUMBERED, World

STATED = "The {a} of {e} is {v}."
CHANGED = "The {a} of {e} is now {v}."
ASKED = ["What is the {a} of {e}?", "Tell me the {a} of {e}."]
SECTION_TOKENS = 80


class PlaceFact(NamedTuple):
    """An attribute of a place and its value."""

    attribute: str
    place: str
    value: str

    @property
    def memory(self) -> str:
        return STATED.format(a=self.attribute, e=self.place, v=self.value)

    @property
    def changed(self) -> str:
        return CHANGED.format(a=self.attribute, e=self.place, v=self.value)


class Document(NamedTuple):
    """A text in sections, what is asked of it, and the fact that holds after each section (None: not yet stated)."""

    question: str
    sections: list[str]
    states: list[PlaceFact | None]

    @property
    def text(self) -> str:
        return " ".join(self.sections)

    @property
    def answer(self) -> str:
        last = self.states[-1]
        return last.value if last else "unknown"


def place_fact(world: World, *, attribute: str | None = None, place: str | None = None, unlike: str = "") -> PlaceFact:
    """A fact about a place; what is not given is drawn."""
    chosen = attribute or world.rng.choice(PLACE_NAMED + PLACE_NUMBERED)
    return PlaceFact(chosen, place or world.name(), world.value_for(chosen, unlike=unlike))


def distractor(world: World, asked: PlaceFact) -> str:
    """A fact that shares the attribute or the place with the one asked for, or neither."""
    rng = world.rng
    kind = rng.random()
    if kind < 0.5:
        return place_fact(world, attribute=asked.attribute).memory
    if kind < 0.7:
        other = rng.choice([a for a in PLACE_NAMED + PLACE_NUMBERED if a != asked.attribute])
        return place_fact(world, attribute=other, place=asked.place).memory
    return place_fact(world).memory


def document(world: World, num_sections: int, length: Callable[[str], int], *, section_tokens: int = SECTION_TOKENS) -> Document:
    """A document of `num_sections` sections that state one fact, perhaps change it later, among distractors and filler.

    `length` counts the tokens of a text; sections fill up to `section_tokens` without crossing it.
    """
    rng = world.rng
    first = place_fact(world)
    stated_in = rng.randrange(num_sections)
    changed_in = rng.randrange(stated_in + 1, num_sections) if stated_in + 1 < num_sections and rng.random() < 0.35 else None
    second = place_fact(world, attribute=first.attribute, place=first.place, unlike=first.value)
    sections: list[str] = []
    states: list[PlaceFact | None] = []
    held: PlaceFact | None = None
    for k in range(num_sections):
        sentences: list[str] = []
        if k == stated_in:
            held = first
            sentences.append(first.memory)
        if k == changed_in:
            held = second
            sentences.append(second.changed)
        while True:
            sentence = distractor(world, first) if rng.random() < 0.4 else world.filler()
            if length(" ".join([*sentences, sentence])) > section_tokens - 4:
                break
            sentences.insert(rng.randrange(len(sentences) + 1), sentence)
        sections.append(" ".join(sentences))
        states.append(held)
    question = rng.choice(ASKED).format(a=first.attribute, e=first.place)
    return Document(question, sections, states)


def reading_step(world: World, mistakes: float, length: Callable[[str], int], section_tokens: int = SECTION_TOKENS) -> Sample:
    """One section read: the right new memory, or with probability `mistakes` one dropped, misled or not updated."""
    rng = world.rng
    doc = document(world, 3, length, section_tokens=section_tokens)
    k = rng.randrange(3)
    before = doc.states[k - 1] if k else None
    after = doc.states[k]
    memory = before.memory if before else "none"
    completion = after.memory if after else "none"
    if rng.random() < mistakes:
        completion = _mistaken(world, doc, k)
    prompt = load_prompt("compact", "read_section").render(question=doc.question, memory=memory, section=doc.sections[k])
    return Sample("read_section", prompt, completion)


def _mistaken(world: World, doc: Document, k: int) -> str:
    """A wrong new memory: a distractor of the section, nothing, or the old memory although the section changes it."""
    before = doc.states[k - 1] if k else None
    sentences = [s.strip() + "." for s in doc.sections[k].split(".")]
    facts = [s for s in sentences if s.startswith("The ") and " of " in s and " is " in s]
    right = doc.states[k]
    stray = [s for s in facts if right is None or right.value not in s]
    if before is not None and right != before:
        return world.rng.choice([before.memory, before.memory, *stray[:1]])
    return world.rng.choice([*stray, "none"] if right is not None else (stray or ["none"]))


def reading_answer(world: World) -> Sample:
    """The answer in a box from the memory that was carried through the document."""
    fact = place_fact(world)
    question = world.rng.choice(ASKED).format(a=fact.attribute, e=fact.place)
    known = world.rng.random() < 0.85
    if known and world.rng.random() < 0.1:
        fact = place_fact(world)  # a memory of something else: the box is filled from what there is
    memory = fact.memory if known else "none"
    prompt = load_prompt("compact", "read_answer").render(question=question, memory=memory)
    return Sample("read_answer", prompt, f"\\boxed{{{fact.value if known else 'unknown'}}}")
