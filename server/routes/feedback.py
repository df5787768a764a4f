"""`POST /v1/feedback`: what a user says of an answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from recollect.errors import InvalidRequest
from recollect.trajectory import Feedback
from server.principal import principal_of
from server.routes.wire import Body, ServiceDep

router = APIRouter()


class FeedbackBody(Body):
    """Feedback on the answer `id` (a completion's id or its `recollect.trajectory_id`). A correction is a gold answer."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    label: Literal["up", "down"] | None = None
    correction: Annotated[str, Field(min_length=1, max_length=100_000)] | None = None
    citations: Annotated[list[str], Field(max_length=100)] | None = None
    comment: Annotated[str, Field(max_length=100_000)] | None = None


@router.post("/v1/feedback")
async def give_feedback(body: FeedbackBody, request: Request, service: ServiceDep) -> dict[str, Any]:
    """Answered once it is durable."""
    feedback = Feedback.model_validate(body.model_dump())
    if feedback == Feedback(id=body.id):
        raise InvalidRequest("feedback says nothing; give score, label, correction, citations or comment", param="score")
    if body.correction is not None and not body.correction.strip():
        raise InvalidRequest("correction is blank; give the right answer, or leave it out and send label 'down'", param="correction")
    trajectory_id = await service.feedback.give(feedback, principal_of(request).tenant)
    return {"object": "feedback", "id": body.id, "trajectory_id": trajectory_id}
