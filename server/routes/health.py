"""`/health`, `/healthz`, `/ready` and `/version`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from server.principal import NOBODY, principal_of
from server.routes.wire import ServiceDep

router = APIRouter()


@router.get("/health")
@router.head("/health", include_in_schema=False)
@router.get("/healthz", include_in_schema=False)
@router.head("/healthz", include_in_schema=False)
async def health() -> dict[str, str]:
    """The process is alive."""
    return {"status": "ok"}


@router.get("/ready")
@router.head("/ready", include_in_schema=False)
async def ready(request: Request, service: ServiceDep) -> JSONResponse:
    """200 when requests would be answered now, else 503 with what is missing. Without a key, where there are some, no more than that."""
    status = await service.status()
    shown = {"ready"} if principal_of(request) is NOBODY else None
    return JSONResponse(
        status.model_dump(mode="json", include=shown), 200 if status.ready else 503, None if status.ready else {"retry-after": "2"}
    )


@router.get("/version")
async def version(service: ServiceDep) -> dict[str, Any]:
    """The version of Recollect."""
    return {"version": service.version}
