"""Supervised samples of dialogue memory: memory operations, fact extraction, short answers with citations.

The sentences here are also those of the generated dialogue tasks (trainer/environments/generated.py).
"""

from __future__ import annotations

import random
from typing import NamedTuple

from recollect.messages import Message, assistant, user
from server.agents.prompts import load_prompt
from trainer.seed.world import NAMED, NUMBERED, World

STATED = ["My {a} is {v}.", "My {a} is called {v}.", "You should know that my {a} is {v}.", "By the way, {v} is my {a}."]
CHANGED = ["My {a} is now {v}.", "My {a} has changed, it is {v} now.", "From today my {a} is {v}."]
FORGET = ["Please forget my {a}.", "Forget what I said about my {a}."]
ASKED = ["What is my {a}?", "Do you remember my {a}?", "Tell me my {a}.", "Which one is my {a}?"]

MEMORY = "User's {a} is {v}."
NOTED = "Noted."
UNKNOWN = "I do not know."


class Sample(NamedTuple):
    """One supervised call: the messages, and what the model should say."""

    skill: str
    messages: list[Message]
    completion: str


class Fact(NamedTuple):
    """An attribute of the user and its value."""

    attribute: str
    value: str

    @property
    def memory(self) -> str:
        return MEMORY.format(a=self.attribute, v=self.value)


def attribute_names(rng: random.Random, count: int) -> list[str]:
    """`count` different attributes that a user may have."""
    return rng.sample(NAMED + NUMBERED, count)


def facts(world: World, count: int) -> list[Fact]:
    """`count` facts about different attributes of the user."""
    return [Fact(a, world.value_for(a)) for a in attribute_names(world.rng, count)]


def numbered(memories: list[str]) -> str:
    """The memories as the `operations` prompt shows them: a number and a text on each line."""
    return "\n".join(f"{i} {text}" for i, text in enumerate(memories, start=1)) or "none"


def cited(memories: list[str]) -> str:
    """The memories as the `answer` prompt shows them: `[i] text` on each line."""
    return "\n".join(f"[{i}] {text}" for i, text in enumerate(memories, start=1)) or "none"


def operations(world: World, mistakes: float) -> Sample:
    """One user turn and up to four old memories; with probability `mistakes` the operation is a wrong one."""
    rng = world.rng
    old = facts(world, rng.choice((0, 1, 1, 2, 2, 3, 4)))
    known = [f.memory for f in old]
    wrong = rng.random() < mistakes
    kind = rng.choices(("new", "changed", "noise", "another", "forget"), (30, 30, 15, 20, 5))[0]
    if kind == "forget" or (kind == "changed" and old):
        i = rng.randrange(len(old)) if old else 0
        attribute = old[i].attribute if old else attribute_names(rng, 1)[0]
        if kind == "forget":
            turn = rng.choice(FORGET).format(a=attribute)
            right = f"DELETE {i + 1}" if old else "NOOP"
            completion = "NOOP" if wrong else right
        else:
            fact = Fact(attribute, world.value_for(attribute, unlike=old[i].value))
            turn = rng.choice(CHANGED if rng.random() < 0.8 else STATED).format(a=attribute, v=fact.value)
            completion = rng.choice(("NOOP", f"UPDATE {i + 1} {old[i].memory}")) if wrong else f"UPDATE {i + 1} {fact.memory}"
    elif kind in ("new", "changed"):
        free = [a for a in NAMED + NUMBERED if a not in {f.attribute for f in old}]
        fact = Fact(a := rng.choice(free), world.value_for(a))
        turn = rng.choice(STATED if rng.random() < 0.9 else CHANGED).format(a=fact.attribute, v=fact.value)
        completion = "NOOP" if wrong else f"ADD {fact.memory}"
    else:
        about = rng.choice(old).attribute if old and rng.random() < 0.5 else attribute_names(rng, 1)[0]
        question = rng.choice(ASKED).format(a=about)
        turn = world.about_another(about) if kind == "another" else rng.choice((question, world.noise()))
        stray = Fact(about, turn.rstrip(".").split()[-1] if kind == "another" else world.value_for(about))
        index = next((i for i, f in enumerate(old, start=1) if f.attribute == about), None)
        completion = (f"UPDATE {index} {stray.memory}" if index else f"ADD {stray.memory}") if wrong and kind == "another" else "NOOP"
    prompt = load_prompt("compact", "operations").render(memories=numbered(known), turn=turn)
    return Sample("operations", prompt, completion)


def extraction(world: World) -> Sample:
    """A turn with up to two facts and some noise; the completion lists the facts, one on each line."""
    rng = world.rng
    told = facts(world, rng.choice((0, 1, 1, 2)))
    sentences = [rng.choice(STATED).format(a=f.attribute, v=f.value) for f in told]
    if not told or rng.random() < 0.4:
        sentences.insert(rng.randrange(len(sentences) + 1), world.noise())
    completion = "\n".join(f.memory for f in told) or "none"
    return Sample("extraction", load_prompt("compact", "extract").render(turn=" ".join(sentences)), completion)


def answer(world: World, mistakes: float) -> Sample:
    """A question (or a statement) with memories in front and sometimes a few earlier turns of the conversation."""
    rng = world.rng
    known = facts(world, rng.choice((1, 1, 2, 2, 3, 4, 5)))
    episodic = rng.random() < 0.3
    lines = [rng.choice(STATED).format(a=f.attribute, v=f.value) if episodic else f.memory for f in known]
    for _ in range(rng.choice((0, 0, 1))):
        lines.insert(
            rng.randrange(len(lines) + 1), world.about_another(rng.choice(known).attribute) if episodic else facts(world, 1)[0].memory
        )
    history: list[Message] = []
    asked = rng.choice(known)
    if rng.random() < 0.75:
        position = next(i for i, text in reversed(list(enumerate(lines, start=1))) if asked.value in text)
        changed = rng.random() < 0.2
        if changed:  # two memories disagree: the later one holds
            asked = Fact(asked.attribute, world.value_for(asked.attribute, unlike=asked.value))
            lines.append(rng.choice(CHANGED).format(a=asked.attribute, v=asked.value) if episodic else asked.memory)
            position = len(lines)
        text = rng.choice(ASKED).format(a=asked.attribute)
        completion = f"{asked.value} [{position}]"
        if rng.random() < mistakes:
            other = rng.choice(known)
            completion = rng.choice((UNKNOWN, f"{other.value} [{known.index(other) + 1}]"))
    elif rng.random() < 0.4:
        free = [a for a in NAMED + NUMBERED if not any(a in line for line in lines)]
        text, completion = rng.choice(ASKED).format(a=rng.choice(free)), UNKNOWN
    else:
        told = facts(world, 1)[0]
        text = rng.choice((rng.choice(STATED).format(a=told.attribute, v=told.value), world.noise()))
        completion = NOTED
    if rng.random() < 0.25:
        for _ in range(rng.choice((1, 2))):
            told = facts(world, 1)[0]
            said = rng.choice((rng.choice(STATED).format(a=told.attribute, v=told.value), world.noise()))
            history += [user(said), assistant(NOTED)]
    if rng.random() < 0.1:
        lines, completion = [], NOTED if completion == NOTED else UNKNOWN
    block = load_prompt("compact", "answer").render(memories=cited(lines), question=text) if lines else [user(text)]
    return Sample("answer", [*history, *block], completion)
