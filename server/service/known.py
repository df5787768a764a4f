"""Which trajectories exist, and whose they are: a request's feedback must belong to one of its own tenant that was logged."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import zstandard

from recollect.log_files import Segment, segments
from recollect.memory import Namespace
from recollect.trajectory import Trajectory
from server.service.ids import is_id, time_of

logger = logging.getLogger(__name__)

MAX_REMEMBERED = 20_000
LONGEST_REQUEST = timedelta(hours=6)
CLOCK_STEP = timedelta(hours=1)
"""By how much the clock may have been set back while an answer was given."""


class KnownTrajectories:
    """Remembers the ids that this process logged; older ones are looked up in the log's files of their time."""

    def __init__(self, log_root: Path) -> None:
        self._root = log_root
        self._recent: OrderedDict[str, str] = OrderedDict()
        self._looking = asyncio.Lock()

    def add(self, trajectory_id: str, tenant: str) -> None:
        """A trajectory of a tenant was logged."""
        self._recent[trajectory_id] = tenant
        if len(self._recent) > MAX_REMEMBERED:
            self._recent.popitem(last=False)

    async def tenant_of(self, trajectory_id: str) -> str | None:
        """The tenant of a trajectory that was logged; None if there is none of this id."""
        if (tenant := self._recent.get(trajectory_id)) is not None:
            return tenant
        found = await self._looked_up(trajectory_id)
        if found is None:
            return None
        self.add(trajectory_id, found["tenant"])
        return found["tenant"]

    async def logged(self, trajectory_id: str, namespace: Namespace) -> Trajectory | None:
        """A trajectory of this namespace as it was logged; None if there is none, or it was forgotten."""
        if self._recent.get(trajectory_id, namespace.tenant) != namespace.tenant:
            return None
        found = await self._looked_up(trajectory_id)
        if found is None or (found["tenant"], found["namespace"]) != (namespace.tenant, str(namespace)):
            return None
        trajectory = Trajectory.model_validate(found)
        known = trajectory.asked or any(message.content or not message.is_text for message in trajectory.request)
        return trajectory if known else None  # what was forgotten has messages without words, and nothing that was asked

    async def _looked_up(self, trajectory_id: str) -> dict[str, Any] | None:
        if not is_id(trajectory_id) or time_of(trajectory_id) > datetime.now(UTC) + CLOCK_STEP:
            return None
        async with self._looking:  # in one thread at most, whoever asks for what there is not
            return await asyncio.to_thread(self._read, trajectory_id)

    def _read(self, trajectory_id: str) -> dict[str, Any] | None:
        made = time_of(trajectory_id)
        needle = f'"trajectory_id":"{trajectory_id}","kind":"trajectory"'.encode()
        found = [one for one in segments(self._root) if one.start <= made + LONGEST_REQUEST and _written(one) >= made - CLOCK_STEP]
        lines = (line for segment in reversed(found) for line in _lines(segment) if needle in line)
        # What a client sent may look so too.
        events = (event for event in map(json.loads, lines) if (event["trajectory_id"], event["kind"]) == (trajectory_id, "trajectory"))
        return next((event["body"] for event in events), None)


def _written(segment: Segment) -> datetime:
    """When it was last written to; what is gone never was."""
    for path in (segment.plain, segment.packed):
        with suppress(FileNotFoundError):
            return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return datetime.min.replace(tzinfo=UTC)


def _lines(segment: Segment) -> Iterator[bytes]:
    with suppress(FileNotFoundError), segment.plain.open("rb") as file:
        yield from file
        return
    try:
        with suppress(FileNotFoundError), segment.packed.open("rb") as file:
            yield from io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file))
    except zstandard.ZstdError as exc:
        logger.warning("%s is damaged, what stands after the damage is not known: %s", segment.packed.name, exc)
