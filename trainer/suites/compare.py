"""Paired comparisons: the same tasks by two contenders, in one evaluation or in two."""

from __future__ import annotations

from collections.abc import Sequence

from recollect.errors import ConfigurationError
from recollect.model import Frozen
from trainer.evaluate import paired_difference
from trainer.suites.contender import Contender
from trainer.suites.results import Result
from trainer.suites.scores import Group, Interval, by_task, groups

TOKENS, SECONDS = "tokens", "seconds"


class Change(Frozen):
    """What changes in one figure from one contender to another: means over the tasks that both have, and after minus before."""

    before: float
    after: float
    difference: Interval

    @property
    def relative(self) -> float | None:
        """The difference as a share of what was before; None if that is 0."""
        return self.difference.mean / self.before if self.before else None


class Comparison(Frozen):
    """Two contenders on one group. `changes` by column, then `tokens` and `seconds` a run; None without a task in both."""

    before: str
    after: str
    group: str
    changes: dict[str, Change | None]


def compare(
    before: Sequence[Result], after: Sequence[Result], *, names: tuple[str, str], columns: Sequence[str], by: Sequence[str]
) -> list[Comparison]:
    """Two contenders' results, by group. Raises ConfigurationError if they have no task in common."""
    if not {r.task for r in before} & {r.task for r in after}:
        raise ConfigurationError(
            f"{names[0]} and {names[1]} have no task in common; compare evaluations of the same suite", param="compare"
        )
    return [
        Comparison(before=names[0], after=names[1], group=group.name, changes=_changes(before, after, group, columns))
        for group in groups([*before, *after], by)
    ]


def within(results: Sequence[Result], contenders: Sequence[Contender], columns: Sequence[str], by: Sequence[str]) -> list[Comparison]:
    """Each later contender of an evaluation against the first one."""
    first, *others = contenders
    ours = [r for r in results if r.contender == first]
    theirs = {other: [r for r in results if r.contender == other] for other in others}
    return [
        comparison
        for other in others
        if {r.task for r in ours} & {r.task for r in theirs[other]}
        for comparison in compare(ours, theirs[other], names=(first.name, other.name), columns=columns, by=by)
    ]


def pairs(before: Sequence[Contender], after: Sequence[Contender]) -> list[tuple[Contender, Contender]]:
    """Which contenders of two evaluations belong together: those of one name, else those of one agent, else the only ones.

    Raises ConfigurationError if that leaves none.
    """
    found = [(one, one) for one in before if one in after]
    for one in before:
        same = [other for other in after if other.agent == one.agent]
        alone = len(same) == 1 and sum(other.agent == one.agent for other in before) == 1
        if alone and one not in after:
            found.append((one, same[0]))
    if not found and len(before) == len(after) == 1:
        found = [(before[0], after[0])]
    if not found:
        names = [", ".join(one.name for one in side) for side in (before, after)]
        raise ConfigurationError(
            f"nothing to compare: one has {names[0]}, the other {names[1]}; name one each: FOLDER#AGENT/POLICY", param="compare"
        )
    return found


def _changes(before: Sequence[Result], after: Sequence[Result], group: Group, columns: Sequence[str]) -> dict[str, Change | None]:
    sides = [[r for r in side if group.holds(r)] for side in (before, after)]
    found = {column: _change(*(by_task(side, lambda r, column=column: r.scores.get(column)) for side in sides)) for column in columns}
    found[TOKENS] = _change(*(by_task(side, lambda r: r.tokens) for side in sides))
    found[SECONDS] = _change(*(by_task(side, lambda r: r.seconds) for side in sides))
    return found


def _change(before: dict[str, float | None], after: dict[str, float | None]) -> Change | None:
    paired = [(b, a) for task, b in before.items() if b is not None and (a := after.get(task)) is not None]
    difference = paired_difference([b for b, _ in paired], [a for _, a in paired])
    if difference is None:
        return None
    num = difference.num_pairs
    return Change(
        before=sum(b for b, _ in paired) / num,
        after=sum(a for _, a in paired) / num,
        difference=Interval(mean=difference.mean, low=difference.low, high=difference.high, num_tasks=num),
    )
