"""`python -m tests.faults [NAME ...]`: run the faults and print what was done, what clients saw, and what was lost."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.scenarios import SCENARIOS, Outcome, vllm_killed


async def main(names: list[str]) -> None:
    """Print a row as each fault is through."""
    table = Table("fault", "what was done", "good answers", "what clients saw besides", "acknowledged", "lost")
    console = Console(width=200)
    for name, scenario in {**SCENARIOS, "vllm killed": vllm_killed}.items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder, console.status(name):
            outcomes = await scenario(Path(folder))
        for outcome in outcomes:
            table.add_row(*_cells(outcome))
    console.print(table)


def _cells(outcome: Outcome) -> list[str]:
    seen = "\n".join(f"{count} x {what}" for what, count in sorted(outcome.seen.items())) or "nothing"
    return [outcome.fault, outcome.done, str(outcome.good), seen, str(outcome.acknowledged), str(len(outcome.lost))]


asyncio.run(main(sys.argv[1:]))
