"""The demo's figures: held-out accuracy before and after through the served endpoint, paired by question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from trainer.demo.swap import Swap
from trainer.demo.users import Asked
from trainer.evaluate import paired_difference


def share(asked: Sequence[Asked]) -> float:
    """The share of right answers."""
    return sum(a.right for a in asked) / len(asked)


def figures(before: Sequence[Asked], after: Sequence[Asked], report: dict[str, Any], swap: Swap) -> dict[str, Any]:
    """Everything that the summary shows, as JSON values."""
    return {
        **_compared(before, after),
        "by_kind": {
            kind: _compared([a for a in before if a.task.kind == kind], [a for a in after if a.task.kind == kind])
            for kind in ("dialogue", "reading")
        },
        "training": report,
        "swap": swap._asdict(),
    }


def show(console: Console, figures: dict[str, Any], home: Path) -> None:
    """The closing table, and where everything lies."""
    console.rule("[bold]What was learned[/]")
    table = Table("held-out questions", "number", "before", "after", "difference", "95 % interval (paired)")
    for name, row in {"all": figures, "dialogue memory": figures["by_kind"]["dialogue"], "reading": figures["by_kind"]["reading"]}.items():
        d = row["difference"]
        interval = f"{d['low']:+.2f} to {d['high']:+.2f}"
        table.add_row(name, str(row["number"]), f"{row['before']:.2f}", f"{row['after']:.2f}", f"{d['mean']:+.2f}", interval)
    console.print(table)
    training, swap = figures["training"], figures["swap"]
    console.print(
        f"Trained {training['iterations']} iterations in {training['seconds']:.0f} s on {training['tasks_logged']} tasks "
        f"from this log and {training['tasks_generated']} generated ones; "
        f"{training['groups_flat']} of {training['groups']} groups had no variance and were skipped.\n"
        f"Swap: {swap['seconds']:.2f} s, {swap['failed']} of {swap['requests']} requests failed, {swap['stale']} stale.\n"
        "The seed model was made to be improvable: this gain shows that the loop turns, not what a real model gains."
    )
    for title, path in (
        ("trajectories", home / "trajectories"),
        ("memories", home / "memory"),
        ("adapter", home / "adapters"),
        ("training run (metrics, report, curve)", home / "runs" / training["run"]),
    ):
        console.print(f"  {title}: {path}", soft_wrap=True)
    console.print(f"This home goes on with: recollect --home {home} serve (or status, adapters list, trajectories list)", soft_wrap=True)


def _compared(before: Sequence[Asked], after: Sequence[Asked]) -> dict[str, Any]:
    difference = paired_difference([float(a.right) for a in before], [float(a.right) for a in after])
    return {
        "number": len(before),
        "before": share(before),
        "after": share(after),
        "difference": difference._asdict() if difference else None,
    }
