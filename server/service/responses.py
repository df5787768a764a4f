"""Answers that can be asked for again by their id, or be gone on from: those that the log has, less those that were deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from recollect.errors import NotFound
from recollect.log_files import full_disk_named, replacing, sync_folder
from recollect.memory import Namespace
from recollect.messages import Message
from recollect.trajectory import Trajectory
from server.service.ids import RESPONSE_PREFIX, trajectory_of
from server.service.known import KnownTrajectories


class Earlier(NamedTuple):
    """What was said up to the end of an earlier answer, in which session, and what was logged of its request (`Trajectory.asked`)."""

    messages: tuple[Message, ...] = ()
    session: str = ""
    asked: Mapping[str, Any] = {}


class Responses:
    """Looks answers up in the log, within a namespace. An answer that was deleted has an empty file of its id in the tenant's folder:
    the log, which other uses are made of, stays as it is."""

    def __init__(self, folder: Path, known: KnownTrajectories) -> None:
        self._folder = folder
        self._known = known

    async def get(self, response_id: str, namespace: Namespace) -> Trajectory:
        """An answer of `/v1/responses` that was to be stored, once it has ended. Raises NotFound."""
        found = await self._found(response_id, namespace) if response_id.startswith(RESPONSE_PREFIX) else None
        if found is None or not found.asked:
            raise NotFound(f"no response {response_id[:80]!r} in {namespace}", param="response_id", code="response_not_found")
        return found

    async def delete(self, response_id: str, namespace: Namespace) -> str:
        """From now on it is not found any more; answers its id. Raises NotFound, StorageFull."""
        found = await self.get(response_id, namespace)
        await asyncio.to_thread(self._mark, found)
        return RESPONSE_PREFIX + found.id

    async def earlier(self, answer_id: str, namespace: Namespace) -> Earlier:
        """What was said up to the end of an earlier answer, without the instructions of its request alone. Raises NotFound."""
        found = await self._found(answer_id, namespace)
        if found is None or found.error is not None:
            raise NotFound(
                f"no answer {answer_id[:80]!r} in the log of {namespace}; send the whole conversation as input instead",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        said = Message(role="assistant", content=found.answer, tool_calls=tuple(found.answer_calls))
        return Earlier((*found.request[1 if found.instructed else 0 :], said), found.session, found.asked)

    async def _found(self, answer_id: str, namespace: Namespace) -> Trajectory | None:
        found = await self._known.logged(trajectory_of(answer_id), namespace)
        if found is None or found.asked.get("store") is False:
            return None
        return None if await asyncio.to_thread(self._marker(found).exists) else found

    def _mark(self, found: Trajectory) -> None:
        with full_disk_named("the response could not be deleted"):
            marker = self._marker(found)
            marker.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replacing(marker):
                pass
            for folder in (self._folder, self._folder.parent):  # where the tenant's folder, and this one, may be new
                sync_folder(folder)

    def _marker(self, found: Trajectory) -> Path:
        return self._folder / found.tenant / found.id
