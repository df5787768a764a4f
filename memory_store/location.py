"""Where tables lie: a folder of this machine, or a prefix of an object storage."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Location:
    """A folder or a table. `options` are Lance's `storage_options`: endpoint, region and credentials of an object storage."""

    uri: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, place: Path | str, options: Mapping[str, str] | None = None) -> Location:
        """A folder, or a URI such as s3://bucket/prefix."""
        return cls(str(place).rstrip("/"), tuple(sorted((options or {}).items())))

    def __truediv__(self, name: str) -> Location:
        return Location(f"{self.uri}/{name}", self.options)

    @property
    def name(self) -> str:
        """The last part, without an ending."""
        return self.uri.rpartition("/")[2].removesuffix(".lance")

    @property
    def path(self) -> Path | None:
        """The folder; None in an object storage."""
        return None if "://" in self.uri else Path(self.uri)

    @property
    def storage_options(self) -> dict[str, str] | None:
        """As Lance takes them."""
        return dict(self.options) or None


def lock_of(path: Path) -> Path:
    """The file that writers of a table lock, beside its folder."""
    return path.with_suffix(".lock")


@contextmanager
def writing(location: Location, *, alone: bool = False, wait: bool = True) -> Generator[None]:
    """Held while files of a table are written: by any number of writers of all processes, or by one `alone`.

    An erasure removes every file that no version names, which a file is that another writer is about to commit. In an object
    storage nothing can be held; there nothing is erased (erase.py). Raises BlockingIOError instead of waiting, if not to `wait`.
    """
    if (path := location.path) is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with lock_of(path).open("a") as lock:
            fcntl.flock(lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
            if not _is(lock_of(path), lock.fileno()):  # whoever dropped the table removed the file meanwhile
                continue
            yield
            return


def mark_created(location: Location, namespace: str) -> bytes:
    """Give a table that was just created its generation, beside its folder: it tells the table from a later one of the same name.

    The namespace stands there too, so that all can be listed without opening their tables.
    """
    if location.path is not None:
        lock_of(location.path).write_text(f"{uuid.uuid4().hex}\n{namespace}", "utf-8")
    return generation_of(location)


def namespace_of(location: Location) -> str | None:
    """The namespace that `mark_created` wrote down; None where it did not."""
    _, _, name = generation_of(location).decode().partition("\n")
    return name or None


def generation_of(location: Location) -> bytes:
    """The generation of the table that is there; empty where none was created, and in an object storage, where none is dropped."""
    try:
        return lock_of(location.path).read_bytes() if location.path is not None else b""
    except FileNotFoundError:
        return b""


def manifest_of(path: Path, version: int) -> Path:
    """The file that makes a version of a table; versions are counted down, so that the newest comes first in a listing."""
    return path / "_versions" / f"{2**64 - 1 - version:020d}.manifest"


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
