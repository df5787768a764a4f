"""Some memories and a question that few of them answer: tasks for choosing what to show the answerer."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from memory_store.evaluate import conversations
from memory_store.evaluate.conversations import Conversation, Question
from memory_store.evaluate.files import read
from recollect.errors import InvalidRequest
from recollect.memory import MemoryWrite, Namespace
from recollect.messages import user
from trainer.environments.dialogue_memory import gold_of
from trainer.environments.tasks import Task
from trainer.seed import dialogue
from trainer.seed.world import Part, World

FIRST_DAY = datetime(2030, 1, 1, tzinfo=UTC)
"""Of the invented memories; each is a day later than the one before, so that which one is latest is known."""


def generated_rerank_task(seed: str, part: Part = "train", *, candidates: int = 8, agent: str = "memory") -> Task:
    """`candidates` memories of what the user said: facts, the same attributes of other people, noise; one holds the answer.

    In every second task the fact asked for was another one before, and that memory tempts. `candidates` is 3 at least.
    """
    if candidates < 3:
        raise InvalidRequest(f"candidates is {candidates}; 3 are needed at least", param="candidates")
    world = World(random.Random(f"rerank/{part}/{candidates}/{seed}"), part)
    rng = world.rng
    told = dialogue.facts(world, min(candidates - 1, 1 + candidates // 3))
    asked = told[0]
    lines = [rng.choice(dialogue.STATED).format(a=fact.attribute, v=fact.value) for fact in told]
    while len(lines) < candidates - 1:
        lines.append(world.noise() if rng.random() < 0.3 else world.about_another(rng.choice(told).attribute))
    answer, evidence = asked.value, lines[0]
    rng.shuffle(lines)
    if rng.random() < 0.5:
        answer = world.value_for(asked.attribute, unlike=asked.value)
        evidence = rng.choice(dialogue.CHANGED).format(a=asked.attribute, v=answer)
        lines.insert(rng.randrange(lines.index(_stated(lines, asked)) + 1, len(lines) + 1), evidence)
    else:
        lines.insert(rng.randrange(len(lines) + 1), world.about_another(asked.attribute))
    memories = tuple(_memory(number, line) for number, line in enumerate(lines, start=1))
    return Task(
        id=f"rerank{candidates}-{part}-{seed}",
        kind="rerank",
        agent=agent,
        namespace=Namespace(parts=(("user", f"rerank-{part}-{seed}"),)),
        memories=memories,
        request=(user(rng.choice(dialogue.ASKED).format(a=asked.attribute)),),
        gold=(answer,),
        evidence=tuple(memory.id for memory in memories if memory.text == evidence),
        labels={"dataset": "generated", "type": "rerank", "candidates": str(candidates)},
        source="generated",
    )


def rerank_tasks(file: Path, *, candidates: int = 30, seed: str = "0", agent: str = "memory") -> list[Task]:
    """The answerable questions of a LoCoMo or LongMemEval file, each with the turns that answer it among others of its conversation.

    Questions without evidence, and with more than `candidates` turns of it, are left out. Raises InvalidRequest for a bad
    file, and if no question is left.
    """
    tasks = [
        _of_question(conversation, question, candidates, seed, agent)
        for conversation in read(file).conversations
        for question in conversation.questions
        if question.answerable and 0 < len(question.evidence) <= candidates
    ]
    if not tasks:
        raise InvalidRequest(f"{file} has no question with at most {candidates} turns of evidence; raise `candidates`", param="candidates")
    return tasks


def _of_question(conversation: Conversation, question: Question, candidates: int, seed: str, agent: str) -> Task:
    rng = random.Random(f"rerank/{seed}/{question.id}")
    others = [turn.id for turn in conversation.turns if turn.id not in question.evidence]
    chosen = question.evidence | set(rng.sample(others, min(len(others), candidates - len(question.evidence))))
    shown = [turn for turn in conversation.turns if turn.id in chosen]
    return Task(
        id=f"rerank-{candidates}-{seed}-{question.id}",
        kind="rerank",
        agent=agent,
        namespace=Namespace(parts=(("user", f"rerank-{conversation.name}"[:256]),)),
        memories=tuple(conversations.writes(shown)),
        request=(user(question.text),),
        at=question.at,
        gold=gold_of(question),
        metric="f1",
        evidence=tuple(turn.id for turn in shown if turn.id in question.evidence),
        labels={"dataset": "rerank", "type": question.category, "candidates": str(candidates)},
        source="file",
    )


def _stated(lines: list[str], fact: dialogue.Fact) -> str:
    """The line that states the fact."""
    forms = [form.format(a=fact.attribute, v=fact.value) for form in dialogue.STATED]
    return next(line for line in lines if line in forms)


def _memory(number: int, text: str) -> MemoryWrite:
    return MemoryWrite(op="add", id=f"m{number}", text=text, kind="episodic", valid_at=FIRST_DAY + timedelta(days=number), trust="user")
