"""Segments on disk: how log files are named, locked, compressed, listed and retired.

A segment is `<utc start>-<pid>.jsonl` while it is written and `<utc start>-<pid>.jsonl.zst` once closed, so that names sort
by time. Its writer holds a flock on it: a plain segment that can be locked belongs to nobody any more. What rewrites or
deletes closed segments holds the flock of `.maintenance.lock`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import zstandard
from pydantic_core import PydanticSerializationError

from recollect.errors import InvalidRequest, StorageFull
from recollect.events import LogEvent

_TIME = "%Y%m%dT%H%M%S.%f"
_NAME = re.compile(r"(?P<start>\d{8}T\d{6}\.\d{6})-(?P<pid>\d+)\.jsonl(?P<zst>\.zst)?")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of the log. `name` is the same before and after compression."""

    root: Path
    name: str
    start: datetime

    @property
    def plain(self) -> Path:
        """The file while it is written."""
        return self.root / f"{self.name}.jsonl"

    @property
    def packed(self) -> Path:
        """The file once closed."""
        return self.root / f"{self.name}.jsonl.zst"


def segments(root: Path) -> list[Segment]:
    """Every segment under `root`, oldest first."""
    found: dict[str, Segment] = {}
    for path in root.iterdir() if root.is_dir() else ():
        if match := _NAME.fullmatch(path.name):
            name = f"{match['start']}-{match['pid']}"
            found[name] = Segment(root, name, datetime.strptime(match["start"], _TIME).replace(tzinfo=UTC))
    return [found[name] for name in sorted(found)]


@contextmanager
def full_disk_named(what: str) -> Generator[None]:
    """Turn the system's errors for a full disk, quota or file size limit into StorageFull. Others pass."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in _FULL:
            raise
        raise StorageFull(f"{what}: {exc.strerror}; free space on the disk of the home and try again") from exc


def create(root: Path) -> tuple[Segment, int]:
    """A new, locked, empty segment, mode 0600, and its descriptor opened for appending."""
    while True:
        start = datetime.now(UTC)
        segment = Segment(root, f"{start.strftime(_TIME)}-{os.getpid()}", start)
        try:
            fd = os.open(segment.plain, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        # Between open and flock an adopting process may take the empty file for abandoned and remove it: then make another.
        if try_lock(fd) and os.fstat(fd).st_nlink:
            return segment, fd
        os.close(fd)


def try_lock(fd: int) -> bool:
    """Lock the open file without waiting; False if another holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_abandoned(segment: Segment) -> int | None:
    """The locked descriptor of a plain segment whose writer is gone; None if it is being written or exists no more."""
    try:
        fd = os.open(segment.plain, os.O_RDWR)
    except FileNotFoundError:
        return None
    if try_lock(fd) and os.fstat(fd).st_nlink:
        return fd
    os.close(fd)
    return None


def cut_torn_line(fd: int) -> bool:
    """Cut off a last line that lacks its newline; True if there was one."""
    size = os.fstat(fd).st_size
    end = size
    while end:
        chunk_start = max(0, end - _CHUNK)
        newline = os.pread(fd, end - chunk_start, chunk_start).rfind(b"\n")
        if newline >= 0:
            end = chunk_start + newline + 1
            break
        end = chunk_start
    if end != size:
        os.ftruncate(fd, end)
    return end != size


def pack(segment: Segment) -> None:
    """Compress a plain segment that the caller has locked, then remove the plain file. At each moment one whole copy exists."""
    status = segment.plain.stat()
    if status.st_size == 0:
        segment.plain.unlink()
        return
    with segment.plain.open("rb") as plain, replacing(segment.packed, mtime_ns=status.st_mtime_ns) as packed:
        _zstd().copy_stream(plain, packed, size=status.st_size)
    segment.plain.unlink()


def aside(path: Path) -> Path:
    """Where the new content of `path` is written before it is renamed. One name, so that a leftover is overwritten."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def replacing(path: Path, *, mtime_ns: int | None = None) -> Generator[BinaryIO]:
    """A file whose content becomes `path`, whole or not at all: written aside with mode 0600, synced, renamed."""
    temporary = aside(path)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            if mtime_ns is not None:
                os.utime(file.fileno(), ns=(mtime_ns, mtime_ns))
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a power loss."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def encode(event: LogEvent) -> bytes:
    """The event's line. Raises InvalidRequest for text that is no Unicode (a lone surrogate)."""
    try:
        return event.model_dump_json(by_alias=True).encode() + b"\n"
    except (PydanticSerializationError, UnicodeEncodeError) as exc:
        raise InvalidRequest(f"event {event.event_id!r} of trajectory {event.trajectory_id!r} cannot be written as JSON: {exc}") from exc


def compress(content: bytes) -> bytes:
    """One zstd frame with its size and a checksum."""
    return _zstd().compress(content)


def _zstd() -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=3, write_checksum=True)


@contextmanager
def maintenance(root: Path) -> Generator[None]:
    """Wait for, and hold, the right to rewrite or delete closed segments."""
    fd = os.open(root / ".maintenance.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def adopt(root: Path) -> int:
    """Close the segments that dead processes left open. Returns how many torn last lines were cut off."""
    torn = 0
    for segment in segments(root):
        if (fd := lock_abandoned(segment)) is None:
            continue
        try:
            torn += cut_torn_line(fd)
            pack(segment)
        finally:
            os.close(fd)
    return torn
