"""The page of a run, HTML and Markdown: what data, what was skipped and why, rewards, updates, held-out tasks, examples, cost.

Made of the run's JSON alone (report.json and the lines of metrics.jsonl), so that every number on it can be found there: a cell
names its figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from trainer.pages import Sheet, Shown, Text, html_page, html_sheet, markdown_sheet
from trainer.run_plots import PLOTS

NOTHING = "-"
SKIPPED = {
    "groups": "groups of siblings",
    "groups_flat": "of them skipped, all rewards alike",
    "groups_flat_outcome": "of them with one outcome, whether or not their steps tell them apart",
    "groups_small": "of them skipped, fewer than two were scored",
    "unscored": "rollouts without a reward, dropped",
    "failed": "rollouts that failed (among those)",
    "calls": "model calls",
    "untrainable_calls": "of them without exact tokens, dropped",
    "frozen_calls": "of them by frozen policies",
    "too_long_calls": "of them longer than the window, dropped",
}
UPDATES = {
    "clip_low": "share of tokens clipped below",
    "clip_high": "share of tokens clipped above",
    "importance_mean": "importance ratio, mean",
    "importance_truncated": "share of tokens whose ratio was truncated",
    "kl_sampler": "divergence from the policy that sampled (k3)",
    "kl_reference": "divergence from the parent (k3)",
    "logprob_difference_max": "largest difference of log-probs to the engine's",
    "version_lag": "updates between sampling and training, mean",
    "grad_norm": "gradient norm, mean",
    "entropy": "entropy, mean",
}
GATE = {
    "tasks": "held-out tasks that were scored on both sides",
    "own_tasks": "of them from the log",
    "own_difference": "difference on those",
    "own_low": "its 90 % interval, from",
    "own_high": "to",
    "norm": "largest change of a weight matrix, by its norm",
    "divergence": "divergence from the parent on the last batch (k3, nats a token)",
    "canaries": "canary prompts",
    "canaries_failed_before": "of them failed by the parent",
    "canaries_failed_after": "and by the candidate",
}
COST = {
    "rollout_s": "seconds of rollouts",
    "update_s": "seconds of updates",
    "sync_s": "seconds of handing candidates to the engine",
    "seconds": "seconds of the whole run",
    "tokens": "tokens trained on",
    "calls_per_s": "recorded calls a second",
}


def markdown(report: Mapping[str, Any]) -> str:
    """The sheets in Markdown."""
    return "\n\n".join([f"# {_title(report)}", _outcome(report), *(markdown_sheet(sheet) for sheet in _sheets(report))]) + "\n"


def html(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The sheets and the plots over the iterations, as one page that needs no other file."""
    plots = [f'<figure id="{name}">{draw(report, rows)}<figcaption>{escape(said)}</figcaption></figure>' for name, said, draw in PLOTS]
    return html_page(_title(report), [f"<p>{escape(_outcome(report))}</p>", *plots, *(html_sheet(sheet) for sheet in _sheets(report))])


def _title(report: Mapping[str, Any]) -> str:
    return f"Run {report['run']} of {report['policy']}"


def _outcome(report: Mapping[str, Any]) -> str:
    if report["version"]:
        return f"Published as {report['policy']}@v{report['version']}{', a canary' if report.get('canary') else ''}."
    said = "Not published, in quarantine" if report.get("quarantined") else "Not published"
    return f"{said}: {report['refusal']}."


def _sheets(report: Mapping[str, Any]) -> list[Sheet]:
    left_out = [(reason, _shown(report, f"left_out.{reason}")) for reason in sorted(report["left_out"])]
    data: list[tuple[Text, ...]] = [
        ("tasks from the log", _shown(report, "tasks_logged")),
        ("generated tasks", _shown(report, "tasks_generated")),
        *[(f"trajectories without a task: {reason}", count) for reason, count in left_out],
        ("iterations", _shown(report, "iterations")),
    ]
    found = [
        Sheet("Held-out tasks", ("", "before", "after", "difference"), _held_out(report)),
        *_gate(report),
        Sheet("Data", ("", ""), data),
        Sheet("Skipped and dropped", ("", ""), _named(report, SKIPPED)),
        Sheet("Rewards of rollouts", ("part", "first fifth", "last fifth"), _rewards(report)),
        Sheet("Updates", ("", ""), _named(report, UPDATES)),
        Sheet("Cost", ("", ""), _named(report, COST)),
    ]
    examples = [_example(one) for one in report.get("examples", [])]
    return [*found, *([Sheet("Examples", ("question", "right", "before", "after"), examples)] if examples else [])]


def _held_out(report: Mapping[str, Any]) -> list[tuple[Text, ...]]:
    interval: Text = NOTHING
    if report["difference"] is not None:
        low, high = number(report["difference_low"]), number(report["difference_high"])
        interval = Shown("difference", f"{number(report['difference'])} (95 %: {low} to {high})")
    rows: list[tuple[Text, ...]] = [
        ("sampled", _shown(report, "held_out_before"), _shown(report, "held_out_after"), interval),
        ("greedy", _shown(report, "held_out_greedy_before"), _shown(report, "held_out_greedy_after"), ""),
    ]
    for kind in report["held_out_by_kind_before"]:
        sides = (_shown(report, f"held_out_by_kind_{side}.{kind}") for side in ("before", "after"))
        rows.append((f"{kind}, sampled", *sides, ""))
    return [
        *rows,
        ("tasks", _shown(report, "held_out_tasks"), "", ""),
        ("answers that failed", _shown(report, "evaluation_errors"), "", ""),
    ]


def _gate(report: Mapping[str, Any]) -> list[Sheet]:
    """The gate's figures; nothing of a run that was not to pass one."""
    gate = report.get("gate")
    if gate is None:
        return []
    figures: list[tuple[Text, ...]] = [(said, _shown(report, f"gate.{name}")) for name, said in GATE.items()]
    told: list[tuple[Text, ...]] = [("refused", reason) for reason in gate["reasons"]] + [("remark", text) for text in gate["said"]]
    return [Sheet("Gate", ("", ""), [*figures, *told])]


def _rewards(report: Mapping[str, Any]) -> list[tuple[Text, ...]]:
    parts = report.get("reward_parts", {})
    return [(name, _shown(report, f"reward_parts.{name}.first"), _shown(report, f"reward_parts.{name}.last")) for name in parts]


def _named(report: Mapping[str, Any], names: Mapping[str, str]) -> list[tuple[Text, ...]]:
    return [(said, _shown(report, name)) for name, said in names.items() if name in report]


def _example(one: Mapping[str, Any]) -> tuple[Text, ...]:
    return (one["question"], one["gold"], one["before"], one["after"])


def _shown(report: Mapping[str, Any], name: str) -> Shown:
    return Shown(name, number(resolved(report, name)))


def resolved(report: Mapping[str, Any], name: str) -> Any:
    """The figure of a dotted name. A key may hold dots itself. Raises KeyError."""
    if name in report:
        return report[name]
    for end in (i for i, letter in enumerate(name) if letter == "."):
        if isinstance(below := report.get(name[:end]), Mapping):
            return resolved(below, name[end + 1 :])
    raise KeyError(name)


def number(value: float | None) -> str:
    """A figure as the page shows it: whole numbers and large ones whole, small ones with their power of ten, others with three digits."""
    if value is None:
        return NOTHING
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.1e}" if value and abs(value) < 5e-4 else f"{value:.3f}"
