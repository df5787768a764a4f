"""Feedback: what a user says of an answer, in the log before it is acknowledged."""

from __future__ import annotations

from recollect.errors import Conflict, NotFound
from recollect.events import LogEvent
from recollect.log import LogWriter
from recollect.trajectory import Feedback
from server.service.ids import new_id, trajectory_of
from server.service.known import KnownTrajectories


class FeedbackBook:
    """Takes feedback on logged trajectories."""

    def __init__(self, log: LogWriter, known: KnownTrajectories, *, kept: bool) -> None:
        """`kept`: whether a log is written at all."""
        self._kept = kept
        self._log = log
        self._known = known

    async def give(self, feedback: Feedback, tenant: str) -> str:
        """Log a tenant's feedback on a trajectory of its own; returns that one's id once it is durable. Takes an answer's id too.

        Raises NotFound, Conflict, StorageFull.
        """
        if not self._kept:
            raise Conflict("no trajectories are kept (log.enabled is false), so there is nothing to give feedback on", code="log_disabled")
        trajectory_id = trajectory_of(feedback.id)
        if await self._known.tenant_of(trajectory_id) != tenant:
            raise NotFound(
                f"no trajectory {feedback.id!r}; send the id of an answer, or its recollect.trajectory_id",
                param="id",
                code="trajectory_not_found",
            )
        body = feedback.model_copy(update={"id": trajectory_id}).model_dump(mode="json")
        await self._log.log(LogEvent(event_id=new_id(), trajectory_id=trajectory_id, kind="feedback", body=body))
        return trajectory_id
