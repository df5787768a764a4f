"""The report of a run: report.json, a page in HTML and Markdown, a PNG with reward curve and held-out bars, a table for the terminal."""

from __future__ import annotations

import json
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from recollect.log_files import replacing
from trainer import run_page
from trainer.evaluate import Evaluation, mean
from trainer.result import TrainResult, held_out_figures

SUMS = (
    "groups",
    "groups_flat",
    "groups_flat_outcome",
    "groups_small",
    "unscored",
    "failed",
    "untrainable_calls",
    "frozen_calls",
    "too_long_calls",
    "calls",
    "tokens",
)
MEANS = (
    *("clip_low", "clip_high", "importance_mean", "importance_truncated", "kl_sampler", "kl_reference", "version_lag"),
    *("grad_norm", "entropy", "calls_per_s"),
)
EXAMPLES, QUESTION_CHARS = 6, 200
"""Of held-out tasks that are shown with their answers: generated ones alone, which hold no user's text."""


def write_report(result: TrainResult) -> None:
    """Write report.json, report.md, report.html and report.png into the run's folder."""
    figures = report(result)
    result.run.report.with_suffix(".md").write_text(run_page.markdown(figures), "utf-8")
    result.run.report.with_suffix(".html").write_text(run_page.html(figures, result.iterations), "utf-8")
    _draw(result).savefig(result.run.figure)
    with replacing(result.run.report) as file:  # the last: with it the run is finished
        file.write(f"{json.dumps(figures, indent=1)}\n".encode())


def report(result: TrainResult) -> dict[str, Any]:
    """The run in figures. Sums and means are over its iterations."""
    return {
        "run": result.run.id,
        "policy": result.policy,
        "version": result.version,
        "refusal": result.refusal,
        "canary": result.canary,
        "weights_sha256": result.weights_sha256,
        "quarantined": result.manifest is None and result.verdict.keep,
        "gate": result.verdict.gate,
        **held_out_figures(result.before, result.after, result.difference),
        "evaluation_errors": result.before.num_errors + result.after.num_errors,
        "iterations": len(result.iterations),
        "rollouts": sum(row.get("rollouts") or 0 for row in result.iterations),
        "answers": 2 * len(result.before.tasks) * (result.before.samples_per_task + 1),
        "tasks_logged": len(result.tasks.logged),
        "tasks_generated": len(result.tasks.generated),
        "left_out": result.tasks.left_out,
        "log": result.tasks.log,
        **{name: sum(row.get(name) or 0 for row in result.iterations) for name in SUMS},
        **{name: mean([row.get(name) for row in result.iterations]) for name in MEANS},
        "logprob_difference_max": max((row.get("logprob_difference_max") or 0.0 for row in result.iterations), default=None),
        **{f"{part}_s": sum(row[f"{part}_s"] for row in result.iterations) for part in ("rollout", "update", "sync")},
        "seconds": result.seconds,
        "reward_parts": _reward_parts(result),
        "examples": _examples(result),
    }


def table(result: TrainResult) -> Table:
    """Held-out accuracy before and after, and what happened on the way."""
    figures, found = report(result), Table(title=f"Run {result.run.id}", show_header=True)
    for name, justify in (("", "left"), ("before", "right"), ("after", "right"), ("difference", "left")):
        found.add_column(name, justify=justify)  # type: ignore[arg-type]
    difference = result.difference
    interval = f"{difference.mean:+.3f} (95 %: {difference.low:+.3f} to {difference.high:+.3f})" if difference else "not scored"
    found.add_row("held-out accuracy, sampled", _number(result.before.accuracy), _number(result.after.accuracy), interval)
    found.add_row("held-out accuracy, greedy", _number(result.before.greedy_accuracy), _number(result.after.greedy_accuracy), "")
    after = result.after.by_kind()
    for kind, value in result.before.by_kind().items():
        found.add_row(f"  {kind}, sampled", _number(value), _number(after[kind]), "")
    first, last = _ends(result)
    found.add_row("reward of rollouts, first and last fifth", _number(first), _number(last), "", end_section=True)
    for label, text in _facts(figures):
        found.add_row(label, "", "", text)
    return found


def _facts(figures: dict[str, Any]) -> list[tuple[str, str]]:
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(figures["left_out"].items())) or "none"
    return [
        ("tasks", f"{figures['tasks_logged']} from the log, {figures['tasks_generated']} generated"),
        ("trajectories without a task", left_out),
        ("log", ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in figures["log"].items()) or "not read"),
        ("groups", f"{figures['groups']}, skipped: {figures['groups_flat']} all alike, {figures['groups_small']} too small"),
        ("rollouts", f"{figures['failed']} failed, {figures['unscored']} unscored"),
        ("calls", f"{figures['calls']}, {figures['untrainable_calls']} not trainable, {figures['too_long_calls']} too long"),
        ("clipped", f"{_number(figures['clip_low'])} low, {_number(figures['clip_high'])} high"),
        ("importance ratio", f"mean {_number(figures['importance_mean'])}, {_number(figures['importance_truncated'])} truncated"),
        ("divergence", f"{_number(figures['kl_sampler'])} from the sampler, {_number(figures['kl_reference'])} from the parent"),
        ("drift", f"{_number(figures['version_lag'])} updates, log-probs at most {_number(figures['logprob_difference_max'])} apart"),
        ("speed", f"{_number(figures['calls_per_s'])} calls/s; rollout {figures['rollout_s']:.0f} s, update {figures['update_s']:.0f} s"),
    ]


def _reward_parts(result: TrainResult) -> dict[str, dict[str, float | None]]:
    """The mean reward, and of each part and kind of task, in the first and in the last fifth of the iterations."""
    names = sorted({name for row in result.iterations for name in row if name == "reward" or name.startswith("reward/")})
    return {name: dict(zip(("first", "last"), _ends(result, name), strict=True)) for name in names}


def _examples(result: TrainResult) -> list[dict[str, str]]:
    """Held-out tasks with their greedy answers, those first whose answer became another."""
    sides = zip(result.tasks.held_out, result.before.greedy_answers, result.after.greedy_answers, strict=False)
    shown = [(task, before, after) for task, before, after in sides if task.source == "generated" and None not in (before, after)]
    shown.sort(key=lambda one: one[1] == one[2])
    return [
        {
            "question": task.request[-1].content[-QUESTION_CHARS:],
            "gold": " | ".join(task.gold),
            "before": before or "",
            "after": after or "",
        }
        for task, before, after in shown[:EXAMPLES]
    ]


def _ends(result: TrainResult, name: str = "reward") -> tuple[float | None, float | None]:
    rewards = [row.get(name) for row in result.iterations]
    fifth = max(1, len(rewards) // 5)
    return mean(rewards[:fifth]), mean(rewards[-fifth:])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _draw(result: TrainResult) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    curve, bars = figure.subplots(1, 2, width_ratios=(2, 1))
    _curve(curve, result)
    _bars(bars, result.before, result.after)
    return figure


def _curve(axes: Axes, result: TrainResult) -> None:
    numbers = [row["iteration"] for row in result.iterations]
    for name, label in (("reward", "reward"), ("reward/exact_match", "exact match"), ("reward/format", "format")):
        values = [row.get(name) for row in result.iterations]
        if any(v is not None for v in values):
            axes.plot(numbers, [float("nan") if v is None else v for v in values], label=label, linewidth=2 if name == "reward" else 1)
    axes.set(xlabel="iteration", ylabel="mean over rollouts", title=f"{result.policy}, run {result.run.id}")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")


def _bars(axes: Axes, before: Evaluation, after: Evaluation) -> None:
    rows = [("all", before.accuracy, after.accuracy), ("greedy", before.greedy_accuracy, after.greedy_accuracy)]
    later = after.by_kind()
    rows += [(kind, value, later[kind]) for kind, value in before.by_kind().items()]
    places = range(len(rows))
    axes.bar([p - 0.2 for p in places], [row[1] or 0.0 for row in rows], width=0.4, label="before")
    axes.bar([p + 0.2 for p in places], [row[2] or 0.0 for row in rows], width=0.4, label="after")
    axes.set_xticks(list(places), [row[0] for row in rows])
    axes.set(ylim=(0, 1), title="held-out accuracy")
    axes.legend(loc="upper left")
