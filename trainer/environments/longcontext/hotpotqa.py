"""Questions on numbered documents as MemAgent and MemFactory train and test on them (arXiv 2507.02259, section 4; 2603.29493)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, Field

from recollect.dataset_file import checked, items
from recollect.errors import InvalidRequest
from recollect.messages import user
from trainer.environments.longcontext.documents import read_hotpotqa
from trainer.environments.longcontext.fit import Length
from trainer.environments.longcontext.qa import documents_sample
from trainer.environments.tasks import Task

_UNBOUNDED = 2**62
Known = Callable[[Task], Awaitable[bool]]
"""Whether a task that holds the question alone is answered rightly."""


class _Prepared(BaseModel):
    context: str
    input: str
    answers: list[str] = Field(min_length=1)
    index: int | str | None = None
    num_docs: int | None = None


def hotpotqa_tasks(
    file: Path, *, count: int, seed: str, length: Length, tokens: int | None = None, num_documents: int | None = None
) -> list[Task]:
    """`count` questions of a HotpotQA file, with documents of its other questions up to `tokens` tokens or `num_documents`.

    Documents are shuffled by the seed and numbered as "Document i:". Raises InvalidRequest for a bad file, too few
    questions or documents, a length that is too short, and if neither or both of the two are given.
    """
    if (tokens is None) == (num_documents is None):
        raise InvalidRequest("give one of `length` and `num_documents`", param="length")
    library = read_hotpotqa(file)
    if len(library.asked) < count:
        raise InvalidRequest(f"{file} holds {len(library.asked)} questions, {count} are asked for; lower `count`", param="count")
    label = {"documents": str(num_documents)} if tokens is None else {"length": str(tokens)}
    found: list[Task] = []
    for asked in library.asked[:count]:
        identity = f"hotpotqa-{tokens or num_documents}-{seed}-{asked.id}"
        sample = documents_sample(asked, library.documents, identity, room=tokens or _UNBOUNDED, length=length, num_documents=num_documents)
        found.append(
            Task(
                id=identity,
                kind="reading",
                agent="reader",
                request=(user(sample.document), user(sample.question)),
                gold=sample.gold,
                metric="boxed",
                evidence=sample.evidence,
                labels={"dataset": "hotpotqa", "type": "hotpotqa", **label},
                source="file",
            )
        )
    return found


def prepared_tasks(file: Path, *, count: int | None = None) -> list[Task]:
    """Tasks of a file whose contexts are made already, in MemAgent's fields: `context`, `input`, `answers`, `num_docs`, `index`.

    `count` takes the first so many; None all. Raises InvalidRequest that names the element, or if there are fewer.
    """
    records = [checked(_Prepared, item, file, str(place)) for place, item in enumerate(items(file, of="questions"))]
    if count is not None and len(records) < count:
        raise InvalidRequest(f"{file} holds {len(records)} questions, {count} are asked for; lower `count`", param="count")
    return [
        Task(
            id=f"prepared-{file.stem}-{place if record.index is None else record.index}",
            kind="reading",
            agent="reader",
            request=(user(record.context), user(record.input)),
            gold=tuple(record.answers),
            metric="boxed",
            labels={"dataset": "hotpotqa", "type": file.stem} | ({} if record.num_docs is None else {"documents": str(record.num_docs)}),
            source="file",
        )
        for place, record in enumerate(records[:count])
    ]


async def needing_context(tasks: Sequence[Task], known: Known, *, concurrency: int = 16) -> list[Task]:
    """The tasks that `known` does not answer from the question alone, in their order (MemAgent's filter).

    `known` is given the task without document, memories and conversation. What it raises is raised.
    """
    limit = asyncio.Semaphore(concurrency)

    async def judged(task: Task) -> bool:
        alone = task.model_copy(update={"request": task.request[-1:], "memories": (), "conversation": (), "evidence": ()})
        async with limit:
            return await known(alone)

    answered = await asyncio.gather(*(judged(task) for task in tasks))
    return [task for task, without in zip(tasks, answered, strict=True) if not without]
