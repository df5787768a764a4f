"""`GET /metrics`, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from server.routes.wire import ServiceDep
from server.service.metrics import CONTENT_TYPE

router = APIRouter()


@router.get("/metrics", response_class=Response)
async def metrics(service: ServiceDep) -> Response:
    """What was counted and timed since the server started, in Prometheus' text format. Where there are keys it needs one with `admin`."""
    return Response(await service.measured(), media_type=CONTENT_TYPE)
