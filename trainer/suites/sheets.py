"""Figures as sheets of text, the same for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.pages import Sheet, Text
from trainer.suites.compare import SECONDS, TOKENS, Change, Comparison
from trainer.suites.scores import Cell, Interval, Telling
from trainer.suites.summary import Summary

NOTHING = "-"
NOTE = (
    "Scores are avg@k: the mean over tasks of the mean over their repeats, with 95 % intervals of a bootstrap over tasks. Failed runs and "
    "unscored answers are counted and left out, never taken as 0. Tokens and seconds are means and quantiles of a run that did not fail, "
    "seconds while other runs were going on."
)


def sheets(summary: Summary) -> list[Sheet]:
    """The scores, and where there are several contenders the differences from the first."""
    scores = Sheet(
        f"{summary.suite}: {summary.num_runs} of {summary.num_total} runs",
        (
            "tasks of",
            "agent/policy",
            *(f"{column} avg@{summary.repeats}" for column in summary.columns),
            *("tasks", "runs", "failed", "unscored", "tokens read", "written", "calls", "p50 s", "p95 s"),
        ),
        _merged([_score_row(one, summary.columns) for one in summary.cells]),
    )
    told = [_told_sheet(summary.tellings)] if summary.tellings else []
    return [scores, *told, *([difference_sheet(summary.comparisons)] if summary.comparisons else [])]


def difference_sheet(comparisons: Sequence[Comparison]) -> Sheet:
    """Before, after, difference with its interval, and the relative change, by group."""
    columns = list(comparisons[0].changes)
    return Sheet(
        "paired differences",
        ("from, to", "tasks of", *columns, "pairs"),
        _merged([_difference_row(one, columns) for one in comparisons]),
    )


def _told_sheet(tellings: Sequence[Telling]) -> Sheet:
    """What was remembered of the conversations, and what that cost: once for all questions."""
    kinds = list(tellings[0].operations)
    return Sheet(
        "conversations told, each once for all its questions",
        ("agent/policy", "conversations", "failed", "turns", "memories", *kinds, "calls", "tokens read", "written", "mean s"),
        [
            (
                one.contender.name,
                *(str(count) for count in (one.num_conversations, one.num_failed, one.turns, one.memories)),
                *(str(one.operations[kind]) for kind in kinds),
                *(str(count) for count in (one.calls, one.prompt_tokens, one.completion_tokens)),
                number(one.seconds, 1),
            )
            for one in tellings
        ],
    )


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where there is none."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def interval_text(found: Interval | None) -> str:
    """A mean and its interval; of one task there is none."""
    if found is None:
        return NOTHING
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})" if found.num_tasks > 1 else f"{found.mean:.3f} (one task)"


def change_text(found: Change | None, digits: int = 3) -> str:
    """Before, after, the difference and its interval (of one task there is none), and the relative change."""
    if found is None:
        return NOTHING
    gap, relative = found.difference, found.relative
    share = "" if relative is None else f", {100 * relative:+.1f} %"
    values = f"{found.before:.{digits}f} → {found.after:.{digits}f}"
    said = f"{gap.low:+.{digits}f} to {gap.high:+.{digits}f}" if gap.num_tasks > 1 else "one task"
    return f"{values}: {gap.mean:+.{digits}f} ({said}){share}"


def _score_row(one: Cell, columns: Sequence[str]) -> tuple[Text, ...]:
    return (
        one.group,
        one.contender.name,
        *(interval_text(one.scores[column]) for column in columns),
        *(str(count) for count in (one.num_tasks, one.num_runs, one.num_failed, one.num_unscored)),
        *(number(value, 0) for value in (one.prompt_tokens, one.completion_tokens)),
        *(number(one.calls, 1), number(one.p50_s, 2), number(one.p95_s, 2)),
    )


def _difference_row(one: Comparison, columns: Sequence[str]) -> tuple[Text, ...]:
    digits = {TOKENS: 0, SECONDS: 2}
    pairs = max((change.difference.num_tasks for change in one.changes.values() if change), default=0)
    texts = [change_text(one.changes[column], digits.get(column, 3)) for column in columns]
    return (f"{one.before}, {one.after}", one.group, *texts, str(pairs))


def _merged(rows: list[tuple[Text, ...]]) -> list[tuple[Text, ...]]:
    """The rows with their first text blank where it is that of the row above."""
    return [("", *row[1:]) if i and rows[i - 1][0] == row[0] else row for i, row in enumerate(rows)]
