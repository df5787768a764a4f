"""The lease on a folder: one process at a time may write there. It ends with the process, or when the folder is removed."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

NAME = "lease"


class Lease:
    """Taken by `take`, for as long as the process lives or until `release`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._descriptor: int | None = None

    @property
    def valid(self) -> bool:
        """Whether it is held now, and its file is still in its place: whoever removes the folder ends the lease."""
        return self._descriptor is not None and self._in_place(self._descriptor)

    def take(self) -> bool:
        """Take it if nobody else has it; True if it is held now. Blocking, but it waits for nobody."""
        if self.valid:
            return True
        self.release()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        if not self._in_place(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let others take it. No-op if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _in_place(self, descriptor: int) -> bool:
        try:
            return os.stat(self._path).st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            return False
