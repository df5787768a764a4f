"""Tasks by name: what a suite or a training run writes in YAML becomes a list of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import ValidationError

from memory_store.evaluate.conversations import Format
from recollect.errors import ConfigurationError
from recollect.settings import SEED_MODEL
from trainer.environments import source_options as options_of
from trainer.environments.dialogue_memory import dialogue_tasks
from trainer.environments.fact_consolidation import fact_tasks
from trainer.environments.generated import dialogue_task, reading_task
from trainer.environments.generated_frequent import frequent_task
from trainer.environments.generated_hard import NUM_SECTIONS, hard_dialogue_task, hard_reading_task
from trainer.environments.longcontext.babilong import babilong_tasks
from trainer.environments.longcontext.fit import Length, counter
from trainer.environments.longcontext.hotpotqa import hotpotqa_tasks, prepared_tasks
from trainer.environments.longcontext.ruler import TASKS, ruler_tasks
from trainer.environments.rerank import generated_rerank_task, rerank_tasks
from trainer.environments.source_options import Options
from trainer.environments.tasks import Task

AnyOptions = TypeVar("AnyOptions", bound=Options)


class Source(NamedTuple, Generic[AnyOptions]):
    """The options of a source, and what makes its tasks of them. Only what needs token counts calls for them."""

    options: type[AnyOptions]
    load: Callable[[AnyOptions, Length], list[Task]]


def load_tasks(name: str, options: Mapping[str, Any], length: Length | None = None) -> list[Task]:
    """The tasks of the source called `name`: a pure function of its arguments and of the files that they name.

    `length` counts tokens; without it the tokenizer of option `tokenizer` does (a `tokenizer.json` or the folder of one), and
    without that the seed model's. Raises ConfigurationError for an unknown name (it lists the known ones) and a wrong
    option (it names it), InvalidRequest for a bad file (it names the line or the element) and a length that cannot be had.
    """
    if name not in SOURCES:
        near = get_close_matches(name, SOURCES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(f"no task source {name!r}{hint} Known sources: {', '.join(sorted(SOURCES))}", param="source")
    source = SOURCES[name]
    checked = _checked(name, source.options, options)
    return source.load(checked, length or counter(checked.tokenizer or SEED_MODEL))


def _checked(name: str, model: type[Options], options: Mapping[str, Any]) -> Options:
    try:
        return model.model_validate(dict(options))
    except ValidationError as exc:
        first = exc.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "options"
        known = ", ".join(model.model_fields)
        raise ConfigurationError(f"task source {name!r}: {field}: {first['msg']}; its options: {known}", param=field) from exc


def _dialogue(options: options_of.GeneratedDialogue, _: Length) -> list[Task]:
    make = hard_dialogue_task if options.difficulty == "hard" else dialogue_task
    tasks = [make(f"{options.seed}-{number}", options.part) for number in range(options.count)]
    return [task.model_copy(update={"agent": options.agent}) for task in tasks]


def _reading(options: options_of.GeneratedReading, length: Length) -> list[Task]:
    hard = options.difficulty == "hard"
    make, sections = (hard_reading_task, NUM_SECTIONS) if hard else (reading_task, 3)
    return [
        make(
            f"{options.seed}-{number}",
            options.part,
            length,
            num_sections=options.num_sections or sections,
            section_tokens=options.section_tokens,
        )
        for number in range(options.count)
    ]


def _frequent(options: options_of.Frequent, length: Length) -> list[Task]:
    return [
        frequent_task(
            f"{options.seed}-{number}", options.part, length, num_sections=options.num_sections, section_tokens=options.section_tokens
        )
        for number in range(options.count)
    ]


def _ruler(options: options_of.Ruler, length: Length) -> list[Task]:
    return [
        task
        for name in (options.tasks or TASKS)
        for task in ruler_tasks(
            name,
            tokens=options.length,
            count=options.count,
            seed=options.seed,
            length=length,
            essays=options.essays,
            file=options.squad if name == "qa_1" else options.hotpotqa,
        )
    ]


def _babilong(options: options_of.Babilong, length: Length) -> list[Task]:
    return babilong_tasks(options.file, options.filler, tokens=options.length, count=options.count, seed=options.seed, length=length)


def _hotpotqa(options: options_of.Hotpotqa, length: Length) -> list[Task]:
    return hotpotqa_tasks(
        options.file,
        count=options.count,
        seed=options.seed,
        length=length,
        tokens=options.length,
        num_documents=options.num_documents,
    )


def _prepared(options: options_of.Prepared, _: Length) -> list[Task]:
    return prepared_tasks(options.file, count=options.count)


def _conversations(of: Format, options: options_of.Dialogues, _: Length) -> list[Task]:
    return dialogue_tasks(
        options.file,
        of=of,
        form=options.form,
        agent=options.agent,
        categories=options.categories,
        count=options.count,
        seed=options.seed,
    )


def _rerank(options: options_of.Rerank, _: Length) -> list[Task]:
    if options.file is not None:
        return rerank_tasks(options.file, candidates=options.candidates, seed=options.seed, agent=options.agent)[: options.count]
    return [
        generated_rerank_task(f"{options.seed}-{number}", options.part, candidates=options.candidates, agent=options.agent)
        for number in range(options.count)
    ]


def _facts(options: options_of.Facts, _: Length) -> list[Task]:
    return fact_tasks(options.file, form=options.form, hops=options.hops, agent=options.agent)[: options.count]


SOURCES: dict[str, Source[Any]] = {
    "dialogue": Source(options_of.GeneratedDialogue, _dialogue),
    "reading": Source(options_of.GeneratedReading, _reading),
    "frequent": Source(options_of.Frequent, _frequent),
    "ruler": Source(options_of.Ruler, _ruler),
    "babilong": Source(options_of.Babilong, _babilong),
    "hotpotqa": Source(options_of.Hotpotqa, _hotpotqa),
    "prepared": Source(options_of.Prepared, _prepared),
    "locomo": Source(options_of.Dialogues, partial(_conversations, "LoCoMo")),
    "longmemeval": Source(options_of.Dialogues, partial(_conversations, "LongMemEval")),
    "rerank": Source(options_of.Rerank, _rerank),
    "fact_consolidation": Source(options_of.Facts, _facts),
}
