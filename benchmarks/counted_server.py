"""`recollect serve` that tells on SIGUSR1 what it holds: `python -m benchmarks.counted_server FILE TRACE ARGUMENTS_OF_RECOLLECT`.

After a collection, into FILE: tasks of the event loop, objects by type without those that are frozen, and with TRACE not 0 bytes by the
line that allocated them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

TYPES = 400
LINES = 60


def told() -> dict[str, Any]:
    """What this process holds now."""
    gc.collect()
    objects = gc.get_objects()
    kinds = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in objects)
    found: dict[str, Any] = {
        "tasks": len(asyncio.all_tasks()),
        "objects": len(objects),
        "frozen": gc.get_freeze_count(),
        "kinds": dict(kinds.most_common(TYPES)),
    }
    if tracemalloc.is_tracing():
        by_line = tracemalloc.take_snapshot().statistics("lineno")
        found["traced"] = {str(one.traceback): one.size for one in by_line[:LINES]}
    return found


def main() -> None:
    """Count, and serve."""
    file, trace, *arguments = sys.argv[1:]
    if int(trace):
        tracemalloc.start()

    def tell(*_: object) -> None:
        aside = Path(f"{file}.tmp")
        aside.write_text(json.dumps(told()), "utf-8")
        os.replace(aside, file)

    signal.signal(signal.SIGUSR1, tell)
    sys.argv = ["recollect", *arguments]
    from recollect.cli import main as run

    run()


if __name__ == "__main__":
    main()
