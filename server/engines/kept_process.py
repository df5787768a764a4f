"""A child process that dies with this one, whole group and all, with its output in a file."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from server.engines import keeper

KEEPER = Path(keeper.__file__)
GRACE_S = 8.0


class KeptProcess:
    """A command under `keeper.py`, which holds the other end of a pipe of ours: when we are gone, it ends the command."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(
        cls, command: Sequence[str], *, environ: Mapping[str, str], log: Path, cwd: Path, grace_s: float = GRACE_S
    ) -> KeptProcess:
        """Start it. Its output is appended to `log`. What does not end `grace_s` seconds after it was asked to is killed."""
        stream = await asyncio.to_thread(_open, log)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(KEEPER),
                str(grace_s),
                *command,
                stdin=PIPE,
                stdout=stream,
                stderr=STDOUT,
                env=dict(environ),
                cwd=cwd,
            )
        finally:
            stream.close()
        return cls(process)

    @property
    def pid(self) -> int:
        """The keeper's process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait until the command and all its descendants have ended; its exit status."""
        return await self._process.wait()

    async def stop(self) -> None:
        """End the command and all its descendants; returns when none is left."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()


def _open(log: Path) -> BinaryIO:
    return open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600))
