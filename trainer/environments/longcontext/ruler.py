"""RULER's thirteen tasks at a wanted length (arXiv 2404.06654; NVIDIA/RULER `synthetic.yaml`, `constants.py`).

As there, the length holds document, question and the answer's budget. Two things differ: no worked example stands before
variable tracking and common words, and no beginning of the answer is given, since an agent is asked and not a text completed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from recollect.dataset_file import text
from recollect.errors import ConfigurationError, InvalidRequest
from recollect.messages import user
from trainer.environments.longcontext.documents import Library, read_hotpotqa, read_squad
from trainer.environments.longcontext.fit import Length, most_that_fits
from trainer.environments.longcontext.frequency import check_distinct, common_words, frequent_words
from trainer.environments.longcontext.niah import FORMS, niah
from trainer.environments.longcontext.qa import INTRO, documents_sample
from trainer.environments.longcontext.sample import Sample, fitted
from trainer.environments.longcontext.tracing import variable_tracking
from trainer.environments.tasks import Metric, Task

ANSWER_TOKENS = dict.fromkeys(FORMS, 128) | {"vt": 30, "cwe": 120, "fwe": 50, "qa_1": 32, "qa_2": 32}
TASKS = tuple(ANSWER_TOKENS)
SYNTHETIC = TASKS[:-2]
QA = TASKS[-2:]
FEW_REPEATS, MANY_REPEATS, MANY_FROM = (6, 1), (30, 3), 4096
"""Of common words, below and from a length of 4,096."""


def ruler_tasks(
    name: str, *, tokens: int, count: int, seed: str, length: Length, essays: Path | None = None, file: Path | None = None
) -> list[Task]:
    """`count` tasks of one type. `tokens` is the whole length, counted by `length`.

    `essays` is a text file or a folder of `.txt` files, `file` a SQuAD file for `qa_1` and a HotpotQA file for `qa_2`.
    Raises ConfigurationError for a name or file that is missing, InvalidRequest for a length that is too short.
    """
    if name not in TASKS:
        raise ConfigurationError(f"RULER has no task {name!r}; its tasks: {', '.join(TASKS)}", param="task")
    sample = _sampler(name, tokens=tokens, length=length, essays=essays, file=file)
    return [_task(name, tokens, seed, number, sample) for number in range(count)]


def _task(name: str, tokens: int, seed: str, number: int, sample: Callable[[str, int], Sample]) -> Task:
    found = sample(f"{name}/{tokens}/{seed}/{number}", number)
    metric: Metric = "contains_any" if name in QA else "contains_all"
    return Task(
        id=f"ruler-{name}-{tokens}-{seed}-{number}",
        kind="reading",
        agent="reader",
        request=(user(found.document), user(found.question)),
        gold=found.gold,
        metric=metric,
        answer_tokens=ANSWER_TOKENS[name],
        evidence=found.evidence,
        labels={"dataset": "ruler", "type": name, "length": str(tokens)},
        source="file" if name in QA else "generated",
    )


def _sampler(name: str, *, tokens: int, length: Length, essays: Path | None, file: Path | None) -> Callable[[str, int], Sample]:
    """From a seed and a number to the sample."""
    room = tokens - ANSWER_TOKENS[name]
    if name in QA:
        return partial(_documents, _library(name, file), room, length)
    if name == "fwe":
        return lambda seed, _: _frequent(seed, room, length)
    if name == "cwe":
        repeats = MANY_REPEATS if tokens >= MANY_FROM else FEW_REPEATS
        return lambda seed, _: fitted(lambda units: common_words(seed, units, repeats=repeats), room, length)
    if name == "vt":
        return lambda seed, _: fitted(partial(variable_tracking, seed), room, length)
    form = FORMS[name]
    essay = _essay(name, essays) if form.haystack == "essay" else ()
    return lambda seed, _: fitted(lambda units: niah(form, seed, units, essay), room, length)


def _frequent(seed: str, room: int, length: Length) -> Sample:
    units = most_that_fits(lambda units: frequent_words(seed, units).tokens(length), room)
    check_distinct(units)
    return frequent_words(seed, units)


def _documents(library: Library, room: int, length: Length, seed: str, number: int) -> Sample:
    """Of the question of this number; after the last comes the first again."""
    asked = library.asked[number % len(library.asked)]
    return documents_sample(asked, library.documents, seed, room=room, length=length, intro=INTRO)


def _library(name: str, file: Path | None) -> Library:
    wanted, read = ("SQuAD", read_squad) if name == "qa_1" else ("HotpotQA", read_hotpotqa)
    if file is None:
        raise ConfigurationError(f"RULER's {name} asks questions of a {wanted} file; name one as `file`", param="file")
    return read(file)


def _essay(name: str, essays: Path | None) -> list[str]:
    """The words of the essays, in order."""
    if essays is None:
        raise ConfigurationError(f"RULER's {name} hides needles in essays; name a text file or a folder as `essays`", param="essays")
    files = sorted(essays.glob("*.txt")) if essays.is_dir() else [essays]
    found = [word for file in files for word in text(file).split()]
    if not found:
        raise InvalidRequest(f"{essays} holds no text", param="essays")
    return found
