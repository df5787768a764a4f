"""What tasks are left out because of the others: those that ask the same, and those of a namespace that gives too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import NamedTuple

from recollect.normalised import normalised
from trainer.environments.tasks import Task


class Kept(NamedTuple):
    """What is left and what was left out, both in order."""

    tasks: list[Task]
    left_out: list[Task]


def without_duplicates(tasks: Sequence[Task]) -> Kept:
    """The first of each that ask the same with the same right answer: of a dialogue in one namespace, of a document anywhere."""
    first: dict[Hashable, Task] = {}
    for task in tasks:
        first.setdefault(_key(task), task)
    return _parted(tasks, {task.id for task in first.values()})


def within_share(tasks: Sequence[Task], share: float, *, always: int = 0) -> Kept:
    """At most `share` of what is left is of one namespace, or `always` tasks if that is more; its newest ones stay.

    With fewer namespaces than `share` has room for, each may give as many as the others.
    """
    counts = Counter(_owner(task) for task in tasks)
    most = max(always, _most(list(counts.values()), max(share, 1 / len(counts)))) if counts else 0
    given: Counter[Hashable] = Counter()
    kept: set[str] = set()
    for task in reversed(tasks):
        given[_owner(task)] += 1
        if given[_owner(task)] <= most:
            kept.add(task.id)
    return _parted(tasks, kept)


def _parted(tasks: Sequence[Task], kept: Collection[str]) -> Kept:
    return Kept([task for task in tasks if task.id in kept], [task for task in tasks if task.id not in kept])


def _most(counts: Sequence[int], share: float) -> int:
    """The largest bound for each count that is at most `share` of the sum of what it leaves of all; at least 1.

    That sum is concave in the bound, so that the bounds which fit are all those up to the largest.
    """
    fits = [most <= share * sum(min(count, most) for count in counts) + 1e-9 for most in (1, max(counts))]
    if fits[1] or not fits[0]:
        return max(counts) if fits[1] else 1
    low, high = 1, max(counts)
    while high - low > 1:
        middle = (low + high) // 2
        if middle <= share * sum(min(count, middle) for count in counts) + 1e-9:
            low = middle
        else:
            high = middle
    return low


def _owner(task: Task) -> Hashable:
    return task.namespace.tenant, str(task.namespace)


def _key(task: Task) -> Hashable:
    gold = frozenset(normalised(text) for text in task.gold)
    asked = tuple((message.role, message.content.strip()) for message in task.request)
    return task.agent, None if task.kind == "reading" else _owner(task), asked, gold
