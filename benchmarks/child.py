"""A benchmark's job in a process of its own: what it told, and what it grew to at most. Linux only: the most is read from /proc."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.M)


async def told(module: str, **job: object) -> dict[str, Any]:
    """Run `python -m module JOB`; what the last line of its output says, as JSON. Raises RuntimeError with its last words if it fails.

    Threads wait as the libraries have it: what importing the trainer set for this process is not handed on.
    """
    environ = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", module, json.dumps(job))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environ, stdout=pipe, stderr=pipe)
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{module} ended with {process.returncode}: {errors.decode(errors='replace')[-2000:]}")
    return json.loads(output.decode().strip().splitlines()[-1])


def peak_resident(pid: int | None = None) -> int:
    """The most bytes that a process (this one, if none is named) was resident with.

    Not getrusage's ru_maxrss: that of a child begins at what its parent was resident with when it was started.
    """
    found = _PEAK.search(Path(f"/proc/{pid or 'self'}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def peak_of_tree(pid: int) -> int:
    """The sum of the peaks of a process and all below it: no less than what they had together at any time."""
    root = psutil.Process(pid)
    return sum(peak_resident(process.pid) for process in (root, *root.children(recursive=True)))
