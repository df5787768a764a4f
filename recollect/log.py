"""The trajectory log's writer: one line an event, one open segment per writing process, closed segments packed aside.

Reading is in `log_read`, forgetting in `log_redact`, retention in `log_retention`, files in `log_files`; their public names are here too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recollect import log_files
from recollect.errors import RecollectError
from recollect.events import LogEvent
from recollect.log_files import encode, full_disk_named
from recollect.log_read import CorruptLine, LogContents, read_events, read_log
from recollect.log_redact import redact, tombstone
from recollect.log_retention import mark_consumed, retire
from recollect.settings import LogSettings

__all__ = ["CorruptLine", "LogContents", "LogWriter", "mark_consumed", "read_events", "read_log", "redact"]

logger = logging.getLogger(__name__)


class LogWriter:
    """Appends events under `root`. Thread-safe. An event whose `append` returned survives the death of the process."""

    def __init__(self, root: Path, settings: LogSettings) -> None:
        """Make the folder and, in the background, close what dead processes left open and apply retention."""
        self.torn_lines = 0
        """Half-written last lines of dead processes that were cut off; none of them was acknowledged."""
        self._root = root
        self._settings = settings
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._segment: log_files.Segment | None = None
        self._size = 0
        self._redacted: set[str] = set()
        self._closed = False
        self._background = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log-segments")
        if settings.enabled:
            with full_disk_named(f"the trajectory log's folder {root} cannot be made"):
                root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._background.submit(self._aside, self._adopt)

    def append(self, event: LogEvent) -> None:
        """Write one line. When it returns, the event is durable. Raises StorageFull, and then nothing of it stays behind."""
        if not self._settings.enabled:
            return
        line = encode(event)
        with self._lock:
            if self._closed:
                raise RecollectError("the trajectory log was closed", code="log_closed")
            if event.trajectory_id in self._redacted:
                line = encode(tombstone(event))
            with full_disk_named("the trajectory log could not be written"):
                self._write(self._open(), line)
            self._size += len(line)
            if self._size >= self._settings.segment_bytes:
                self._rotate()

    async def log(self, event: LogEvent) -> None:
        """`append` for coroutines. Direct: a write of 20 kB takes less time than handing it to a thread; with fsync, in a thread."""
        if self._settings.fsync:
            await asyncio.to_thread(self.append, event)
        else:
            self.append(event)

    def redact(self, trajectory_ids: Iterable[str]) -> int:
        """Forget trajectories, in this process's open segment too and in what it appends later. Returns the events blanked."""
        ids = set(trajectory_ids)
        with self._lock:
            self._redacted |= ids
            self._rotate()
        self.settle()
        return redact(self._root, ids)

    def settle(self) -> None:
        """Wait until closed segments are packed and abandoned ones adopted."""
        self._background.submit(lambda: None).result()

    def close(self) -> None:
        """Close and pack the open segment, and wait for it. Further appends are refused."""
        with self._lock:
            self._closed = True
            self._rotate()
        self._background.shutdown(wait=True)

    def _open(self) -> int:
        if self._fd is None:
            self._segment, self._fd = log_files.create(self._root)
            self._size = 0
            if self._settings.fsync:
                log_files.sync_folder(self._root)
        return self._fd

    def _write(self, fd: int, line: bytes) -> None:
        written = 0
        try:
            written = os.write(fd, line)
            while written < len(line):
                written += os.write(fd, line[written:])
            if self._settings.fsync:
                os.fsync(fd)
        except OSError:
            self._undo(fd)
            if written == len(line):
                # Somebody may have read the line that was cut off, and counted it: no other one may take its place.
                self._rotate()
            raise

    def _undo(self, fd: int) -> None:
        """Cut a half-written line off; if even that fails, begin a new segment: packing cuts it off, readers skip it."""
        try:
            os.ftruncate(fd, self._size)
        except OSError:
            self._rotate()

    def _rotate(self) -> None:
        segment, fd = self._segment, self._fd
        if segment is None or fd is None:
            return
        self._segment = self._fd = None
        self._background.submit(self._aside, lambda: self._pack(segment, fd))

    def _pack(self, segment: log_files.Segment, fd: int) -> None:
        try:
            self.torn_lines += log_files.cut_torn_line(fd)
            log_files.pack(segment)
        finally:
            os.close(fd)
        retire(self._root, self._settings)

    def _adopt(self) -> None:
        torn = log_files.adopt(self._root)
        if torn:
            logger.warning("cut off %d half-written lines that a dead process left in the trajectory log; none was acknowledged", torn)
        self.torn_lines += torn
        retire(self._root, self._settings)

    def _aside(self, work: Callable[[], None]) -> None:
        # The background's boundary: a segment that cannot be packed (a full disk, say) stays plain, readable and whole,
        # and the next writer to start takes it up again.
        try:
            work()
        except Exception as exc:  # noqa: BLE001
            logger.warning("the trajectory log's files could not be tidied, nothing is lost: %s", exc)
