"""Questions about long dialogues, from files of the LoCoMo and the LongMemEval format: a task a question, one conversation for all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from memory_store.evaluate import conversations
from memory_store.evaluate.conversations import Conversation, Format, Question
from memory_store.evaluate.files import read
from recollect.errors import InvalidRequest
from recollect.memory import MemoryWrite, Namespace
from recollect.messages import user
from trainer.environments.tasks import Task, Turn

Form = Literal["told", "stored"]
"""told: the agent is told turn by turn and remembers as it does; stored: every turn is a memory already, under its own id."""
ABSTAINED = ("not mentioned", "no information", "not know", "don't know", "unknown", "cannot be answered", "can't be answered")
"""What an answer to a question without an answer holds: the two phrases that LoCoMo's evaluation accepts, and their like."""
_OPEN_DOMAIN = "3"


def dialogue_tasks(
    file: Path,
    *,
    of: Format | None = None,
    form: Form = "told",
    agent: str = "memory",
    categories: Sequence[str] | None = None,
    count: int | None = None,
    seed: str = "0",
) -> list[Task]:
    """The questions of the file, all or those of some categories (LoCoMo: "1" to "5"; LongMemEval: the type), or a seeded `count` of them.

    Labels: `type` is the category, `split` is "answerable" or "adversarial" (LoCoMo's category 5, LongMemEval's abstention).
    An adversarial question is answered rightly by saying that nobody said it. Raises InvalidRequest for a bad file, a
    question without an answer, and if fewer than `count` are there.
    """
    corpus = read(file)
    if of not in (None, corpus.format):
        raise InvalidRequest(f"{file} is a file of {corpus.format}, not of {of}; name the source that fits", param="file")
    known = {question.category for conversation in corpus.conversations for question in conversation.questions}
    if strange := set(categories or ()) - known:
        raise InvalidRequest(f"{file} has no category {min(strange)!r}; its categories: {', '.join(sorted(known))}", param="categories")
    tasks = [
        task
        for conversation in corpus.conversations
        for task in _tasks(conversation, corpus.format, form, agent, frozenset(categories or known))
    ]
    if count is None:
        return tasks
    if len(tasks) < count:
        raise InvalidRequest(f"{file} gives {len(tasks)} questions, {count} are asked for; lower `count`", param="count")
    return [tasks[place] for place in sorted(random.Random(seed).sample(range(len(tasks)), count))]


def gold_of(question: Question) -> tuple[str, ...]:
    """The right answers; of LoCoMo's open-domain ones the part before the semicolon, as its evaluation has it. Raises InvalidRequest."""
    if not question.answerable:
        return ABSTAINED
    if question.answer is None or not question.answer.strip():
        raise InvalidRequest(f"question {question.id} has no `answer`", param="answer")
    return (question.answer.partition(";")[0].strip() if question.category == _OPEN_DOMAIN else question.answer.strip(),)


def _tasks(conversation: Conversation, of: Format, form: Form, agent: str, categories: frozenset[str]) -> list[Task]:
    dataset = of.lower()
    namespace = Namespace(parts=(("user", f"{dataset}-{conversation.name}"[:256]),))
    memories: tuple[MemoryWrite, ...] = ()
    told: tuple[Turn, ...] = ()
    where = {turn.id: turn.id for turn in conversation.turns}
    if form == "stored":
        memories = tuple(conversations.writes(conversation.turns))
    elif of == "LoCoMo":
        told = _people(conversation)
    else:
        told, where = _exchanges(conversation)
    return [
        Task(
            id=f"{dataset}-{question.id}",
            kind="dialogue",
            agent=agent,
            namespace=namespace,
            memories=memories,
            conversation=told,
            request=(user(question.text),),
            at=question.at,
            gold=gold_of(question),
            metric="f1" if question.answerable else "contains_any",
            evidence=tuple(dict.fromkeys(where[turn.id] for turn in conversation.turns if turn.id in question.evidence)),
            labels={
                "dataset": dataset,
                "type": question.category,
                "split": "answerable" if question.answerable else "adversarial",
            },
            source="file",
        )
        for question in conversation.questions
        if question.category in categories
    ]


def _people(conversation: Conversation) -> tuple[Turn, ...]:
    """Two people talk: each turn is told with its speaker's name, and nobody replies."""
    return tuple(
        Turn(messages=(user(turn.text),), session=turn.session, at=turn.at, id=turn.id, speaker=turn.speaker) for turn in conversation.turns
    )


def _exchanges(conversation: Conversation) -> tuple[tuple[Turn, ...], dict[str, str]]:
    """A user and an assistant: what the user said and the reply are one turn. Also which turn each of the file's became."""
    told: list[Turn] = []
    where: dict[str, str] = {}
    for turn in conversation.turns:
        said = turn.text.removeprefix(f"{turn.speaker}: ")
        before = told[-1] if told else None
        if turn.speaker == "assistant" and before is not None and before.session == turn.session and not before.reply:
            told[-1] = before.model_copy(update={"reply": said})
        else:
            # An assistant's turn that replies to nothing is told as such, so that no evidence is lost.
            text = said if turn.speaker == "user" else turn.text
            told.append(Turn(messages=(user(text),), session=turn.session, at=turn.at, id=turn.id, speaker=turn.speaker))
        where[turn.id] = told[-1].id or turn.id
    return tuple(told), where
