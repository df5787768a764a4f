"""One trainer on a home at a time: the lock on `train.lock`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from recollect.errors import Conflict

_LOCK = "train.lock"


@contextmanager
def exclusive(home: Path) -> Generator[None]:
    """One trainer on a home at a time. Raises Conflict."""
    with _locked(home, fcntl.LOCK_EX) as mine:
        if not mine:
            raise Conflict(f"a trainer runs on home {home} already; wait for it to end")
        yield


@contextmanager
def trainer_absent(home: Path) -> Generator[bool]:
    """Whether no trainer runs on the home; if so, none begins until the end."""
    with _locked(home, fcntl.LOCK_SH) as mine:
        yield mine


@contextmanager
def _locked(home: Path, how: int) -> Generator[bool]:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
