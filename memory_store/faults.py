"""What Lance and the operating system say went wrong, as our errors."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from recollect.errors import Conflict, RecollectError, StorageFull

T = TypeVar("T")


class CommitConflict(Exception):
    """Another process committed first; read again."""


def transient(exc: Exception) -> bool:
    """Whether Lance failed because another process removed or changed what was being read, so that reading again may help."""
    text = str(exc).lower()
    return any(said in text for said in ("not found", "no such file", "conflict", "does not exist", "failed to shutdown local writer"))


def guarded(write: Callable[[], T]) -> T:
    """Run a write. A version that another process's clean-up removed under it is a conflict too."""
    try:
        return write()
    except RecollectError:
        raise
    except (OSError, ValueError) as exc:
        text = str(exc).lower()
        if any(word in text for word in ("concurrent", "conflict", "not found", "already exists")):
            raise CommitConflict(str(exc)) from exc
        if isinstance(exc, ValueError):
            raise
        raise translated(exc, "the memory store") from exc


def settled(work: Callable[[], T], what: str) -> T:
    """Run `work` for a caller who cannot read again: what is a conflict still is an error. Raises Conflict, RecollectError."""
    try:
        return guarded(work)
    except CommitConflict as exc:
        raise Conflict(f"{what} gave way to other processes that write all the time; try again") from exc


def translated(exc: Exception, what: str) -> RecollectError:
    """Our error for the operating system's, which Lance passes on as text."""
    said = ("No space left", "StorageFull", "os error 28", "quota", "File too large", "os error 27")
    full = getattr(exc, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(text in str(exc) for text in said)
    if full:
        return StorageFull(f"no space is left on the disk of {what}; nothing was stored. Free some and try again")
    if getattr(exc, "errno", None) in (errno.EROFS, errno.EACCES, errno.EPERM):
        return RecollectError(f"{what} may not be written: {exc}; nothing was stored. Make it writable and try again", code="read_only")
    return RecollectError(f"{what} cannot be read or written: {exc}", code="storage_error")
