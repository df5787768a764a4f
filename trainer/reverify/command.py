"""What `recollect trajectories reverify` does: read the log, score it, append what differs, tell it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from recollect.errors import ConfigurationError
from recollect.log import LogWriter, read_log
from recollect.settings import Settings
from server.agents.registry import flows
from trainer.config import TrainConfig
from trainer.reverify.run import append, chosen, reverified
from trainer.rewards.judge import opened_judge
from trainer.rewards.verdicts import VERDICTS


async def reverify(settings: Settings, config: TrainConfig, names: Sequence[str], *, hints: bool, write: bool) -> dict[str, Any]:
    """The report, after everything in it is durable. Raises ConfigurationError, NewerLog, StorageFull."""
    wanted = chosen(names, config, hints=hints)
    if write and not settings.log.enabled:
        raise ConfigurationError("log.enabled is false: rewards cannot be appended; set it, or look with --dry-run", param="log.enabled")
    contents = read_log(settings.home / "trajectories")
    async with opened_judge(config.judge, settings.home / VERDICTS) as judge:
        found = await reverified(contents.trajectories, wanted, config, flows(settings.agents, [settings.home / "agents"]), judge)
    if write and found.events:
        writer = LogWriter(settings.home / "trajectories", settings.log)
        try:
            append(writer, found)
        finally:
            writer.close()
    report = found.report | {"corrupt_lines": [str(line) for line in contents.corrupt_lines]}
    return report | {"appended": report["appended"] if write else 0, "to_append": 0 if write else report["appended"]}


def table(report: dict[str, Any]) -> Table:
    """A row for each reward."""
    found = Table("reward", "source", "scored", "mean", "not scored", "new", "changed", "unchanged", box=None, pad_edge=False)
    for row in report["rewards"]:
        mean = "-" if row["mean"] is None else f"{row['mean']:.3f}"
        figures = (str(row[name]) for name in ("not_scored", "new", "changed", "unchanged"))
        found.add_row(row["reward"], row["source"], str(row["scored"]), mean, *figures)
    return found


def summary(report: dict[str, Any]) -> str:
    """One line: what was read, passed over and written."""
    skipped = ", ".join(f"{count} {reason}" for reason, count in sorted(report["skipped"].items())) or "none"
    done = f"{report['to_append']} rewards would be appended" if report["to_append"] else f"{report['appended']} rewards appended"
    return f"{report['trajectories']} trajectories read, skipped: {skipped}, corrupt lines: {len(report['corrupt_lines'])}; {done}"
