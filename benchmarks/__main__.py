"""`python -m benchmarks [NAME ...] [--json]`: run the benchmarks and print their figures."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine

from rich.console import Console
from rich.table import Table

from benchmarks import idle_server, memory_search, rollout, trajectory_log
from benchmarks.figure import Figure

BENCHMARKS: dict[str, Callable[[], Coroutine[None, None, list[Figure]]]] = {
    "idle": idle_server.run,
    "log": trajectory_log.run,
    "memory": memory_search.run,
    "rollout": rollout.run,
}


def main() -> None:
    """Run what is named, or everything. Exit 2 for an unknown name."""
    names = [name for name in sys.argv[1:] if not name.startswith("-")] or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"error: no benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}", file=sys.stderr)
        raise SystemExit(2)
    found: dict[str, list[Figure]] = {}
    for name in names:
        print(f"{name} ...", file=sys.stderr)
        found[name] = asyncio.run(BENCHMARKS[name]())
    if "--json" in sys.argv:
        print(json.dumps({name: [figure._asdict() for figure in figures] for name, figures in found.items()}, ensure_ascii=False))
        return
    table = Table("benchmark", "what", "measured", "wanted")
    for name, figures in found.items():
        for figure in figures:
            table.add_row(name, *figure)
    Console().print(table)


if __name__ == "__main__":
    main()
