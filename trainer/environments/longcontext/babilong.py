"""Facts of bAbI in filler text (BABILong, arXiv 2406.10149), from a file of bAbI's format (Weston et al. 2015)."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from recollect.dataset_file import text
from recollect.errors import InvalidRequest
from recollect.messages import user
from trainer.environments.longcontext.fit import Length
from trainer.environments.longcontext.sample import Sample, fitted
from trainer.environments.tasks import Task

ANSWER_TOKENS = 16
INTRO = "The facts that answer the question are hidden in the following text, in the order in which they happened."
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class Story(NamedTuple):
    """The facts before a question, in order, those of them that answer it, and the answer."""

    facts: tuple[str, ...]
    question: str
    answer: str
    supporting: tuple[str, ...]


def read_babi(path: Path) -> list[Story]:
    """One story a question. Raises InvalidRequest that names the line."""
    stories: list[Story] = []
    facts: dict[int, str] = {}
    for place, line in enumerate(text(path).splitlines(), start=1):
        if not line.strip():
            continue
        number, _, said = line.strip().partition(" ")
        if not number.isdigit() or not said:
            raise InvalidRequest(f"{path}: line {place}: a number and a text are needed, as in '1 Mary went home.'", param="file")
        if int(number) == 1:
            facts = {}
        if "\t" not in said:
            facts[int(number)] = said
            continue
        stories.append(_story(path, place, facts, said.split("\t")))
    if not stories:
        raise InvalidRequest(f"{path} holds no question: a line with tabs before its answer and its supporting facts", param="file")
    return stories


def _story(path: Path, place: int, facts: dict[int, str], parts: list[str]) -> Story:
    if len(parts) != 3 or not parts[1].strip():
        raise InvalidRequest(f"{path}: line {place}: a question, its answer and its supporting facts are needed", param="file")
    question, answer, named = (part.strip() for part in parts)
    try:
        supporting = tuple(facts[int(number)] for number in named.split())
    except (ValueError, KeyError) as exc:
        raise InvalidRequest(f"{path}: line {place}: {named!r} names a fact that was not told before", param="file") from exc
    return Story(tuple(facts.values()), question, answer, supporting)


def babilong_tasks(file: Path, filler: Path, *, tokens: int, count: int, seed: str, length: Length) -> list[Task]:
    """The first `count` questions of the file, each in `tokens` tokens of filler, with the answer's budget; the order of facts is kept.

    `filler` is a text file. Labels are those that occur in the answers of the file; an answer may be
    several, with commas between them. Raises
    InvalidRequest for a bad file, a file with fewer questions, a length that is too short.
    """
    stories = read_babi(file)
    if len(stories) < count:
        raise InvalidRequest(f"{file} holds {len(stories)} questions, {count} are asked for; lower `count`", param="count")
    sentences = _SENTENCE_END.split(" ".join(text(filler).split()))
    if not any(sentences):
        raise InvalidRequest(f"{filler} holds no text", param="filler")
    choices = tuple(sorted({label for story in stories for label in story.answer.split(",")}))
    return [
        _task(story, sentences, choices, f"{file.stem}-{tokens}-{seed}-{number}", file.stem, tokens, length)
        for number, story in enumerate(stories[:count])
    ]


def _task(story: Story, sentences: Sequence[str], choices: tuple[str, ...], identity: str, name: str, tokens: int, length: Length) -> Task:
    found = fitted(lambda units: _scattered(story, identity, units, sentences), tokens - ANSWER_TOKENS, length)
    return Task(
        id=f"babilong-{identity}",
        kind="reading",
        agent="reader",
        request=(user(found.document), user(found.question)),
        gold=found.gold,
        metric="first_label",
        choices=choices,
        answer_tokens=ANSWER_TOKENS,
        evidence=found.evidence,
        labels={"dataset": "babilong", "type": name, "length": str(tokens)},
        source="file",
    )


def _scattered(story: Story, seed: str, units: int, sentences: Sequence[str]) -> Sample:
    """The facts among `units` sentences of filler, that begin anywhere in the file."""
    rng = random.Random(seed)
    first = rng.randrange(len(sentences))
    lines = [sentences[(first + i) % len(sentences)] for i in range(units)]
    places = sorted(rng.randrange(len(lines) + 1) for _ in story.facts)
    for place, fact in reversed(list(zip(places, story.facts, strict=True))):
        lines.insert(place, fact)
    return Sample(f"{INTRO}\n\n{' '.join(lines)}", story.question, (story.answer,), story.supporting)
