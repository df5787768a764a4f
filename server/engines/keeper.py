"""Runs a command and sees to it that nothing of it is left: a small process between the server and its engine.

It is run as a script: `python keeper.py GRACE COMMAND...`, with a pipe as stdin. When the pipe closes (the server closed it, or
died in whatever way), or when it is told to end, or when the command ends by itself, the command's whole process group
is ended (asked first, and killed after GRACE seconds), and so is every descendant that left the group. Standard library only: it must
start at once and stay small.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

POLL_S = 0.02
PR_SET_CHILD_SUBREAPER = 36


def main(grace_s: float, command: list[str]) -> int:
    """Run `command` until it ends or stdin does; returns its exit status (128 + n if signal n ended it)."""
    if sys.platform == "linux":
        # Descendants whose parent died come to this process, so that they can be found.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, _wake)
    signal.set_wakeup_fd(wake)
    leader = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True).pid
    ended: dict[int, int] = {}
    while _reap(ended) and leader not in ended:
        ready, _, _ = select.select([awake, 0], [], [])
        if 0 in ready and not os.read(0, 1):
            break
        if awake in ready and {signal.SIGTERM, signal.SIGINT} & set(os.read(awake, 64)):
            break
    _end(leader, ended, grace_s)
    status = os.waitstatus_to_exitcode(ended.get(leader, 0))
    return status if status >= 0 else 128 - status


def _wake(number: int, frame: FrameType | None) -> None:
    """The wake-up pipe tells of the signal."""


def _reap(ended: dict[int, int]) -> bool:
    """Note the children that have ended; False if none is left."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True
            ended[pid] = status
    return False


def _end(leader: int, ended: dict[int, int], grace_s: float) -> None:
    """Ask the group to end, then whoever left it; kill what is still there after the grace."""
    _send(-leader, signal.SIGTERM)
    asked: set[int] = set()
    deadline = time.monotonic() + grace_s
    while _reap(ended):
        late = time.monotonic() > deadline
        if late:
            _send(-leader, signal.SIGKILL)
        if late or leader in ended:
            for pid in _children():
                if late or pid not in asked:
                    _send(pid, signal.SIGKILL if late else signal.SIGTERM)
                asked.add(pid)
        time.sleep(POLL_S)


def _children() -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
