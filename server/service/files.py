"""Texts that tenants uploaded: `files/<tenant>/<id>.txt`, and beside each an `<id>.json` that says what it is.

A file is there once its `.json` is; one that is being uploaded is `<id>.part`. All of them are mode 0600, in folders of mode 0700.
"""

from __future__ import annotations

import codecs
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from recollect.errors import FileTooLarge, InvalidRequest, NotFound
from recollect.log_files import full_disk_named
from recollect.memory import TENANT, Namespace
from recollect.model import Record
from recollect.trajectory import now
from server.service.ids import new_id

_ID = re.compile(r"file-[0-9a-f]{32}")


class FileRecord(Record):
    """What is known of a file. `namespace` is the one it was uploaded in: it goes when that is forgotten."""

    id: str
    namespace: str
    filename: str
    purpose: str
    bytes: int
    created_at: datetime


class Files:
    """The files of all tenants, under one folder. Within a tenant every namespace may read them; another tenant's do not exist."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        """Removes what killed uploads left behind. `max_bytes` is the limit of one file."""
        self._root = root
        self._max_bytes = max_bytes
        for left in (*root.glob("*/*.part"), *(text for text in root.glob("*/*.txt") if not text.with_suffix(".json").exists())):
            left.unlink(missing_ok=True)

    def begin(self, namespace: Namespace) -> Upload:
        """A new file, to be written piece by piece. Raises StorageFull."""
        folder = self._folder(namespace.tenant)
        with full_disk_named("the file cannot be written"):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            return Upload(folder, namespace, self._max_bytes)

    def list(self, tenant: str) -> Sequence[FileRecord]:
        """The files of a tenant, newest first."""
        found = [record for path in self._folder(tenant).glob("*.json") if (record := _read(path)) is not None]
        return sorted(found, key=lambda record: record.id, reverse=True)

    def get(self, tenant: str, file_id: str) -> FileRecord:
        """One file of a tenant. Raises NotFound."""
        record = _read(self._folder(tenant) / f"{file_id}.json") if _ID.fullmatch(file_id) else None
        if record is None:
            raise NotFound(f"no file {file_id!r}; upload it with POST /v1/files, GET /v1/files lists what there is", param="file_id")
        return record

    def path(self, tenant: str, file_id: str) -> Path:
        """Where the text of a file lies. Raises NotFound."""
        return self._folder(tenant) / f"{self.get(tenant, file_id).id}.txt"

    def delete(self, tenant: str, file_id: str) -> None:
        """Remove a file. Raises NotFound."""
        self._remove(tenant, self.get(tenant, file_id))

    def forget(self, tenant: str, chosen: Callable[[FileRecord], bool]) -> set[str]:
        """Remove the files of a tenant of which `chosen` holds; their ids."""
        doomed = [record for record in self.list(tenant) if chosen(record)]
        for record in doomed:
            self._remove(tenant, record)
        return {record.id for record in doomed}

    def drop(self, tenant: str) -> set[str]:
        """Remove all files of a tenant, uploads in progress included; the ids of those that were there."""
        ids = {record.id for record in self.list(tenant)}
        folder = self._folder(tenant)
        if folder.is_dir():
            shutil.rmtree(folder)
        return ids

    def _remove(self, tenant: str, record: FileRecord) -> None:
        # The text first: if the process dies between, the file is still listed and can be deleted again.
        for suffix in (".txt", ".json"):
            (self._folder(tenant) / f"{record.id}{suffix}").unlink(missing_ok=True)

    def _folder(self, tenant: str) -> Path:
        if not TENANT.fullmatch(tenant):
            raise InvalidRequest(f"{tenant!r} is no tenant: use lower-case letters, digits, '-' and '_'", param="tenant")
        return self._root / tenant


class Upload:
    """A text that is being written. Nothing of it stays unless it is finished."""

    def __init__(self, folder: Path, namespace: Namespace, max_bytes: int) -> None:
        self._id = f"file-{new_id()}"
        self._namespace = namespace
        self._max_bytes = max_bytes
        self._folder = folder
        self._part = folder / f"{self._id}.part"
        self._file = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._bytes = 0

    def write(self, data: bytes) -> None:
        """Append. Raises InvalidRequest that names the first byte that is not UTF-8, FileTooLarge, StorageFull."""
        self._check(data)
        self._bytes += len(data)
        if self._bytes > self._max_bytes:
            raise FileTooLarge(f"file is larger than the {self._max_bytes} bytes of files.max_bytes; split it, or raise it", param="file")
        with full_disk_named("the file cannot be written"):
            self._file.write(data)

    def finish(self, filename: str, purpose: str) -> FileRecord:
        """Keep it: when this returns, it outlives the process. Raises as `write` does, and InvalidRequest for an empty file."""
        self._check(b"", final=True)
        if not self._bytes:
            raise InvalidRequest("file is empty; send a text", param="file", code="empty_file")
        record = FileRecord(
            id=self._id, namespace=str(self._namespace), filename=filename, purpose=purpose, bytes=self._bytes, created_at=now()
        )
        with full_disk_named("the file cannot be written"):
            self._file.close()
            self._part.rename(self._folder / f"{self._id}.txt")
            self._describe(record)
        return record

    def discard(self) -> None:
        """Leave nothing behind; no-op after `finish`."""
        with suppress(OSError):  # what is buffered does not matter, nor that the disk is full
            self._file.close()
        self._part.unlink(missing_ok=True)

    def _describe(self, record: FileRecord) -> None:
        described = self._folder / f"{self._id}.json"
        try:
            described.with_suffix(".part").touch(mode=0o600)
            described.with_suffix(".part").write_text(record.model_dump_json(), "utf-8")
            described.with_suffix(".part").rename(described)
        except OSError:
            described.with_suffix(".txt").unlink(missing_ok=True)
            raise

    def _check(self, data: bytes, *, final: bool = False) -> None:
        waiting = len(self._text.getstate()[0])
        try:
            self._text.decode(data, final)
        except UnicodeDecodeError as exc:
            at = self._bytes - waiting + exc.start
            raise InvalidRequest(
                f"file is not UTF-8: byte {at} (the first is 0) is 0x{exc.object[exc.start]:02x}; only text is read, save it as UTF-8",
                param="file",
                code="invalid_encoding",
            ) from exc


def _read(path: Path) -> FileRecord | None:
    """None if it is not there, any more or yet, or not whole."""
    try:
        return FileRecord.model_validate_json(path.read_text("utf-8"))
    except (FileNotFoundError, ValidationError):
        return None
