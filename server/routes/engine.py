"""`/v1/admin/engine`: whether the engine rests; a rest, and its end."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from server.routes.admin import of_pool
from server.routes.wire import Body, ServiceDep
from server.service.resting import Reason, RestState

router = APIRouter(dependencies=[Depends(of_pool)])


class RestBody(Body):
    """For how many seconds to rest if nobody asks again, how many answers in progress have to end (default: `engine.rest_drain_s`), why.
    `renew`: only to make a rest longer."""

    lease_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    drain_s: Annotated[float, Field(ge=0, le=86_400)] | None = None
    reason: Reason = "maintenance"
    renew: bool = False


@router.get("/v1/admin/engine")
async def engine_state(service: ServiceDep) -> RestState:
    """Whether the engine rests, and how it would."""
    return service.resting.state


@router.post("/v1/admin/engine/rest")
async def rest_engine(body: RestBody, service: ServiceDep) -> RestState:
    """Let the engine rest; answers when it does. Asked again, the rest ends `lease_s` after the newest request. 409 for one that cannot."""
    return await service.resting.rest(body.reason, body.lease_s, body.drain_s, renew=body.renew)


@router.post("/v1/admin/engine/wake")
async def wake_engine(service: ServiceDep) -> RestState:
    """End the rest; answers when requests are answered again. One that does not rest goes on."""
    return await service.resting.wake()
