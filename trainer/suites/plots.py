"""Plots of an evaluation as SVG: scores with their intervals, and scores against tokens."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainer.pages import svg
from trainer.suites.scores import ALL, Cell
from trainer.suites.summary import Summary


def score_plot(summary: Summary) -> str:
    """Bars by group, one colour a contender, one row a column of scores."""
    figure = Figure(figsize=(10, 3.2 * len(summary.columns)), layout="constrained")
    for axes, column in zip(figure.subplots(len(summary.columns), squeeze=False)[:, 0], summary.columns, strict=True):
        _bars(axes, summary, column)
    return svg(figure)


def cost_plot(summary: Summary) -> str:
    """All tasks: each contender's score against the tokens of a run."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axes, column in zip(figure.subplots(1, len(summary.columns), squeeze=False)[0], summary.columns, strict=True):
        for one in (cell for cell in summary.cells if cell.group == ALL):
            _point(axes, one, column)
        axes.set(xlabel="tokens a run", ylabel=column, ylim=(0, 1))
        axes.grid(alpha=0.3)
        _legend(axes)
    return svg(figure)


def _bars(axes: Axes, summary: Summary, column: str) -> None:
    groups = list(dict.fromkeys(cell.group for cell in summary.cells))
    names = list(dict.fromkeys(cell.contender.name for cell in summary.cells))
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        scored = [(cell.group, found) for cell in summary.cells if cell.contender.name == name and (found := cell.scores[column])]
        places = [groups.index(group) + (number - (len(names) - 1) / 2) * width for group, _ in scored]
        means = [found.mean for _, found in scored]
        # The mean of a percentile bootstrap lies within its interval but for rounding.
        errors = [[max(0.0, f.mean - f.low) for _, f in scored], [max(0.0, f.high - f.mean) for _, f in scored]]
        axes.bar(places, means, width=width, yerr=errors, capsize=2, label=name)
    axes.set_xticks(range(len(groups)), groups)
    axes.set(ylim=(0, 1), ylabel=f"{column} avg@{summary.repeats}")
    _legend(axes)


def _legend(axes: Axes) -> None:
    """If anything was scored."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize="small", loc="upper left")


def _point(axes: Axes, one: Cell, column: str) -> None:
    found = one.scores[column]
    if found is None or one.prompt_tokens is None or one.completion_tokens is None:
        return
    errors = [[max(0.0, found.mean - found.low)], [max(0.0, found.high - found.mean)]]
    axes.errorbar([one.prompt_tokens + one.completion_tokens], [found.mean], yerr=errors, fmt="o", capsize=3, label=one.contender.name)
