"""The plots of a run's page, as SVG: each a function of report.json and the lines of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainer.pages import svg

Report = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]
REWARD = "reward/"
KINDS = ("reading", "dialogue", "rerank", "logged", "generated", "file")
"""What metrics break the reward down by, besides its parts."""


def held_out(report: Report, rows: Rows) -> str:
    """Bars before and after, sampled, with the interval of the difference on the bar after."""
    figure, axes = _axes()
    names = ["all, sampled", "all, greedy", *report["held_out_by_kind_before"]]
    before = [report["held_out_before"], report["held_out_greedy_before"], *report["held_out_by_kind_before"].values()]
    after = [report["held_out_after"], report["held_out_greedy_after"], *report["held_out_by_kind_after"].values()]
    places = range(len(names))
    axes.bar([p - 0.2 for p in places], [_value(v) for v in before], width=0.4, label="before")
    axes.bar([p + 0.2 for p in places], [_value(v) for v in after], width=0.4, label="after")
    if report["difference"] is not None:
        ends = [report["held_out_before"] + report[f"difference_{end}"] for end in ("low", "high")]
        errors = [[max(0.0, report["held_out_after"] - ends[0])], [max(0.0, ends[1] - report["held_out_after"])]]
        axes.errorbar([0.2], [report["held_out_after"]], yerr=errors, fmt="none", ecolor="black", capsize=4)
    axes.set_xticks(list(places), names)
    axes.set(ylim=(0, 1), ylabel="accuracy")
    _legend(axes)
    return svg(figure)


def rewards(report: Report, rows: Rows) -> str:
    """The mean reward of rollouts and its parts."""
    parts = sorted({name for row in rows for name in row if name.startswith(REWARD) and name.removeprefix(REWARD) not in KINDS})
    return _lines(rows, ["reward", *parts], "mean over rollouts")


def variance(report: Report, rows: Rows) -> str:
    """The share of groups whose rewards were all alike: what GRPO cannot learn from."""
    figure, axes = _axes()
    shares = [row["groups_flat"] / row["groups"] if row["groups"] else float("nan") for row in rows]
    axes.plot([row["iteration"] for row in rows], shares)
    axes.set(xlabel="iteration", ylabel="share of groups without variance", ylim=(0, 1))
    return svg(figure)


def divergence(report: Report, rows: Rows) -> str:
    """KL to the sampling policy and to the parent, and the largest difference of log-probs."""
    return _lines(rows, ["kl_sampler", "kl_reference", "logprob_difference_max"], "nats", log=True)


def clipping(report: Report, rows: Rows) -> str:
    """Shares of tokens that were clipped or truncated, and how old the samples' policies were."""
    return _lines(rows, ["clip_low", "clip_high", "importance_truncated", "version_lag"], "share of tokens; updates")


def cost(report: Report, rows: Rows) -> str:
    """Seconds of each iteration by part."""
    figure, axes = _axes()
    numbers = [row["iteration"] for row in rows]
    parts = ("rollout_s", "update_s", "sync_s")
    axes.stackplot(numbers, *[[_value(row.get(part)) for row in rows] for part in parts], labels=parts)
    axes.set(xlabel="iteration", ylabel="seconds")
    _legend(axes)
    return svg(figure)


PLOTS: tuple[tuple[str, str, Callable[[Report, Rows], str]], ...] = (
    ("held-out", "Held-out accuracy before and after; the bar is the 95 % interval of the paired difference.", held_out),
    ("rewards", "Rewards of rollouts by part.", rewards),
    ("variance", "Groups without variance, which were skipped.", variance),
    ("divergence", "Divergence and drift.", divergence),
    ("clipping", "Clipped and truncated tokens, and staleness.", clipping),
    ("cost", "Where the time of each iteration went.", cost),
)
"""By its place on the page: the element's id, what is said below it, and what draws it."""


def _lines(rows: Rows, names: Sequence[str], label: str, *, log: bool = False) -> str:
    figure, axes = _axes()
    numbers = [row["iteration"] for row in rows]
    for name in names:
        values = [row.get(name) for row in rows]
        if any(value is not None for value in values):
            axes.plot(numbers, [float("nan") if v is None else v for v in values], label=name, linewidth=2 if name == names[0] else 1)
    axes.set(xlabel="iteration", ylabel=label)
    if log:
        axes.set_yscale("symlog", linthresh=1e-9)
    _legend(axes)
    return svg(figure)


def _legend(axes: Axes) -> None:
    """Beside the plot, where it hides nothing."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return figure, axes


def _value(value: float | None) -> float:
    return float("nan") if value is None else value
