"""Scores of an evaluation: avg@k with intervals, by label, with tokens and latency beside each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from recollect.model import Frozen
from trainer.evaluate import Difference, mean, paired_difference
from trainer.suites.contender import Contender
from trainer.suites.results import Conversation, Result

ALL = "all"


class Group(NamedTuple):
    """The tasks whose label `label` has the value `value`; `all` are all."""

    label: str
    value: str

    @property
    def name(self) -> str:
        """How reports call it."""
        return ALL if self.label == ALL else f"{self.label}: {self.value}"

    def holds(self, result: Result) -> bool:
        """Whether a result belongs to it."""
        return self.label == ALL or result.labels.get(self.label) == self.value


class Interval(Frozen):
    """A mean over `num_tasks` tasks with its 95 % interval."""

    mean: float
    low: float
    high: float
    num_tasks: int


class Cell(Frozen):
    """One contender on one group. `scores` by column: avg@k, the mean over tasks of the mean over their scored repeats; None
    where nothing was scored. Tokens, calls and seconds are of a run that did not fail; None if all failed."""

    agent: str
    policy: str
    group: str
    scores: dict[str, Interval | None]
    num_tasks: int
    num_runs: int
    num_failed: int
    num_unscored: int
    """Runs that did not fail, and of which some column has no score."""
    prompt_tokens: float | None
    completion_tokens: float | None
    calls: float | None
    p50_s: float | None
    p95_s: float | None

    @property
    def contender(self) -> Contender:
        return Contender(self.agent, self.policy)


class Telling(Frozen):
    """What a contender made of the conversations that it was told. Sums; `seconds` is the mean of a conversation."""

    agent: str
    policy: str
    num_conversations: int
    num_failed: int
    turns: int
    memories: int
    operations: dict[str, int]
    calls: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float | None

    @property
    def contender(self) -> Contender:
        return Contender(self.agent, self.policy)


def telling_of(told: Sequence[Conversation], contender: Contender) -> Telling | None:
    """The sums over a contender's conversations; None if it was told none."""
    chosen = [one for one in told if one.contender == contender]
    if not chosen:
        return None
    return Telling(
        agent=contender.agent,
        policy=contender.policy,
        num_conversations=len(chosen),
        num_failed=sum(one.error is not None for one in chosen),
        turns=sum(one.turns for one in chosen),
        memories=sum(one.memories for one in chosen),
        operations={kind: sum(one.operations.get(kind, 0) for one in chosen) for kind in chosen[0].operations},
        calls=sum(one.calls for one in chosen),
        prompt_tokens=sum(one.prompt_tokens for one in chosen),
        completion_tokens=sum(one.completion_tokens for one in chosen),
        seconds=mean([one.seconds for one in chosen]),
    )


def groups(results: Sequence[Result], by: Sequence[str]) -> list[Group]:
    """Every value of each label, in the order in which they come, and all. A label of one value tells nothing, and is left out."""
    found = [Group(ALL, "")]
    for label in by:
        values = list(dict.fromkeys(result.labels[label] for result in results if label in result.labels))
        told = [{r.task for r in results if r.labels.get(label) == value} for value in values]
        known = [{r.task for r in results if g.holds(r)} for g in found]
        if len(values) > 1:
            # Two labels may part the tasks alike: what is said once is not said again.
            found += [Group(label, value) for value, tasks in zip(values, told, strict=True) if tasks not in known]
    return found


def cell(results: Sequence[Result], contender: Contender, group: Group, columns: Sequence[str]) -> Cell:
    """The scores of a contender in a group."""
    chosen = [r for r in results if r.contender == contender and group.holds(r)]
    done = [r for r in chosen if r.error is None]
    p50, p95 = _quantiles([r.seconds for r in done])
    return Cell(
        agent=contender.agent,
        policy=contender.policy,
        group=group.name,
        scores={column: interval(list(by_task(chosen, lambda r, column=column: r.scores.get(column)).values())) for column in columns},
        num_tasks=len({r.task for r in chosen}),
        num_runs=len(chosen),
        num_failed=len(chosen) - len(done),
        num_unscored=sum(any(r.scores.get(column) is None for column in columns) for r in done),
        prompt_tokens=mean([r.prompt_tokens for r in done]),
        completion_tokens=mean([r.completion_tokens for r in done]),
        calls=mean([r.calls for r in done]),
        p50_s=p50,
        p95_s=p95,
    )


def by_task(results: Sequence[Result], value: Callable[[Result], float | None]) -> dict[str, float | None]:
    """For each task the mean over its repeats of a value; None where none of them has one. A failed run has none."""
    found: dict[str, list[float | None]] = defaultdict(list)
    for result in results:
        found[result.task].append(None if result.error is not None else value(result))
    return {task: mean(values) for task, values in found.items()}


def interval(values: Sequence[float | None]) -> Interval | None:
    """The mean over tasks with a percentile bootstrap over tasks: repeats of a task are one cluster. None without values."""
    found: Difference | None = paired_difference([0.0] * len(values), values)
    return None if found is None else Interval(mean=found.mean, low=found.low, high=found.high, num_tasks=found.num_pairs)


def _quantiles(seconds: Sequence[float]) -> tuple[float | None, float | None]:
    if not seconds:
        return None, None
    p50, p95 = np.quantile(np.asarray(seconds), [0.5, 0.95])
    return float(p50), float(p95)
