"""`python -m benchmarks [NAME ...] [--json] [--scale X]`: run the benchmarks and print their figures."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine

from rich.console import Console
from rich.table import Table

from benchmarks import (
    beside_night,
    cost,
    credit,
    idle_server,
    iteration,
    leak,
    maintenance,
    mem0_turn,
    memory_search,
    memory_turn,
    million,
    namespaces,
    reading,
    reading_served,
    reading_ways,
    reranking,
    rollout,
    search,
    serving,
    trajectory_log,
    writes,
)
from benchmarks.figure import Figure
from benchmarks.scale import VARIABLE

BENCHMARKS: dict[str, Callable[[], Coroutine[None, None, list[Figure]]]] = {
    "beside-night": beside_night.run,
    "cost": cost.run,
    "credit": credit.run,
    "idle": idle_server.run,
    "iteration": iteration.run,
    "leak": leak.run,
    "log": trajectory_log.run,
    "maintenance": maintenance.run,
    "mem0_turn": mem0_turn.run,
    "memory": memory_search.run,
    "memory_turn": memory_turn.run,
    "million": million.run,
    "namespaces": namespaces.run,
    "reading": reading.run,
    "reading-served": reading_served.run,
    "reading-ways": reading_ways.run,
    "reranking": reranking.run,
    "rollout": rollout.run,
    "search": search.run,
    "serving": serving.run,
    "writes": writes.run,
}
LONG = frozenset(
    {
        "beside-night",
        "cost",
        "credit",
        "iteration",
        "leak",
        "memory_turn",
        "million",
        "namespaces",
        "reading",
        "reading-served",
        "reading-ways",
        "search",
        "writes",
    }
)
"""Those that take more than a few minutes: run when they are named, or with `all`."""


def main() -> None:
    """Run what is named, or everything that is short. Exit 2 for an unknown name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or any of {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--scale", type=float, help=f"multiply every count, as {VARIABLE} does; 0.01 is a rehearsal")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in BENCHMARKS and name != "all"]:
        parser.error(f"no benchmark {unknown[0]!r}; known: all, {', '.join(BENCHMARKS)}")
    if asked.scale is not None:
        os.environ[VARIABLE] = str(asked.scale)
    names = list(BENCHMARKS) if "all" in asked.names else asked.names or [name for name in BENCHMARKS if name not in LONG]
    found: dict[str, list[Figure]] = {}
    for name in names:
        print(f"{name} ...", file=sys.stderr)
        found[name] = asyncio.run(BENCHMARKS[name]())
    if asked.json:
        print(json.dumps({name: [figure._asdict() for figure in figures] for name, figures in found.items()}, ensure_ascii=False))
        return
    table = Table("benchmark", "what", "measured", "wanted")
    for name, figures in found.items():
        for figure in figures:
            table.add_row(name, *figure)
    Console().print(table)


if __name__ == "__main__":
    main()
