"""Which trajectories exist: a request's feedback must belong to one that was logged."""

from __future__ import annotations

import asyncio
import io
import logging
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import zstandard

from recollect.log_files import Segment, segments
from server.service.ids import is_id, time_of

logger = logging.getLogger(__name__)

MAX_REMEMBERED = 20_000
LONGEST_REQUEST = timedelta(hours=6)


class KnownTrajectories:
    """Remembers the ids that this process logged; older ones are looked up in the log's files of their time."""

    def __init__(self, log_root: Path) -> None:
        self._root = log_root
        self._recent: OrderedDict[str, None] = OrderedDict()

    def add(self, trajectory_id: str) -> None:
        """A trajectory was logged."""
        self._recent[trajectory_id] = None
        if len(self._recent) > MAX_REMEMBERED:
            self._recent.popitem(last=False)

    async def exists(self, trajectory_id: str) -> bool:
        """True if a trajectory of this id was logged."""
        if trajectory_id in self._recent:
            return True
        if not is_id(trajectory_id) or not await asyncio.to_thread(self._logged, trajectory_id):
            return False
        self.add(trajectory_id)
        return True

    def _logged(self, trajectory_id: str) -> bool:
        made = time_of(trajectory_id)
        needle = f'"trajectory_id":"{trajectory_id}","kind":"trajectory"'.encode()
        found = [segment for segment in segments(self._root) if segment.start <= made + LONGEST_REQUEST]
        return any(needle in line for segment in reversed(found) for line in _lines(segment))


def _lines(segment: Segment) -> Iterator[bytes]:
    with suppress(FileNotFoundError), segment.plain.open("rb") as file:
        yield from file
        return
    try:
        with suppress(FileNotFoundError), segment.packed.open("rb") as file:
            yield from io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file))
    except zstandard.ZstdError as exc:
        logger.warning("%s is damaged, what stands after the damage is not known: %s", segment.packed.name, exc)
