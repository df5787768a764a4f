"""Numbered facts of which later ones override earlier ones (MemoryAgentBench's FactConsolidation, arXiv 2507.05257)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from recollect.dataset_file import checked, items
from recollect.errors import InvalidRequest
from recollect.memory import MemoryWrite, Namespace
from recollect.messages import user
from trainer.environments.tasks import Task, Turn

Form = Literal["read", "told", "stored"]
"""read: the list is a document; told: the agent is told some facts at a time; stored: every fact is a memory already."""
RULE = "The facts are numbered. Where facts disagree, the one with the larger number holds, even if you know otherwise."
TOLD_AT_ONCE = 20
_FACT = re.compile(r"(\d+)\. (\S.*)")
_HOPS = {"_sh_": "single", "_mh_": "multi"}


class _Record(BaseModel):
    context: str
    questions: list[str] = Field(min_length=1)
    answers: list[list[str]]
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])


def fact_tasks(file: Path, *, form: Form = "read", hops: Literal["single", "multi"] | None = None, agent: str | None = None) -> list[Task]:
    """A task a question, of one list of facts for all its questions; `hops` keeps the single-hop or the multi-hop ones.

    Ids of stored memories are `fact-<number>`. Label `type`: single, multi, or unknown where the file does not say (by
    `metadata.qa_pair_ids`). Scored by substring, as the benchmark does. Raises InvalidRequest that names file and element.
    """
    tasks: list[Task] = []
    for place, item in enumerate(items(file, of="fact lists")):
        record = checked(_Record, item, file, str(place))
        if len(record.answers) != len(record.questions):
            name = f"{place}.answers"
            raise InvalidRequest(f"{file}: {name}: {len(record.questions)} questions need as many answers", param=name)
        tasks += _of_list(file, place, record, form, agent)
    return [task for task in tasks if hops is None or task.labels["type"] == hops]


def _of_list(file: Path, place: int, record: _Record, form: Form, agent: str | None) -> list[Task]:
    facts = facts_of(file, place, record.context)
    name = f"facts-{file.stem}-{place}"
    told: tuple[Turn, ...] = ()
    memories: tuple[MemoryWrite, ...] = ()
    if form == "told":
        lines = [f"{number}. {fact}" for number, fact in facts]
        told = tuple(
            Turn(messages=(user("\n".join(lines[first : first + TOLD_AT_ONCE])),), id=f"facts-{first}")
            for first in range(0, len(lines), TOLD_AT_ONCE)
        )
    elif form == "stored":
        memories = tuple(MemoryWrite(op="add", id=f"fact-{number}", text=f"{number}. {fact}") for number, fact in facts)
    tasks: list[Task] = []
    for number, (question, answers) in enumerate(zip(record.questions, record.answers, strict=True)):
        if not answers:
            field = f"{place}.answers.{number}"
            raise InvalidRequest(f"{file}: {field}: a right answer is needed", param=field)
        asked = user(f"{RULE} {question}")
        tasks.append(
            Task(
                id=f"{name}-{number}",
                kind="reading" if form == "read" else "dialogue",
                agent=agent or ("reader" if form == "read" else "memory"),
                namespace=Namespace(parts=(("user", name),)),
                memories=memories,
                conversation=told,
                request=(user(record.context), asked) if form == "read" else (asked,),
                gold=tuple(answers),
                metric="contains_any",
                labels={"dataset": "fact_consolidation", "type": _hops(record, number), "facts": str(len(facts))},
                source="file",
            )
        )
    return tasks


def facts_of(file: Path, place: int, context: str) -> list[tuple[int, str]]:
    """Number and text of each fact, in order; lines before the first are a heading. Raises InvalidRequest that names the line."""
    found: list[tuple[int, str]] = []
    for line_number, line in enumerate(context.splitlines(), start=1):
        match = _FACT.fullmatch(line.strip())
        if match and (not found or int(match[1]) > found[-1][0]):
            found.append((int(match[1]), match[2]))
        elif line.strip() and found:
            name = f"{place}.context"
            raise InvalidRequest(f"{file}: {name}: line {line_number}: a fact with a larger number is needed, such as '7. …'", param=name)
    if not found:
        raise InvalidRequest(f"{file}: {place}.context: holds no numbered fact", param=f"{place}.context")
    return found


def _hops(record: _Record, number: int) -> str:
    ids = record.metadata.get("qa_pair_ids") or []
    identity = str(ids[number]) if number < len(ids) else str(record.metadata.get("source", ""))
    return next((hops for mark, hops in _HOPS.items() if mark in identity), "unknown")
