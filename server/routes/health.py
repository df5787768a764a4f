"""`/health`, `/healthz`, `/ready` and `/version`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from recollect.memory import LOCAL_TENANT
from server.principal import NOBODY, principal_of
from server.routes.wire import ServiceDep

TOLD_TO_ALL = {"ready", "detail", "version", "models"}
RETRY_AFTER_S = 2
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
    """200 when requests would be answered now, else 503 with what is missing. What concerns other tenants is told to the home's own
    administrators, and without a key, where there are some, no more than whether."""
    who = principal_of(request)
    if who is NOBODY:
        shown: dict[str, Any] = {"ready": service.ready}
    else:
        own = who.tenant == LOCAL_TENANT and "admin" in who.scopes
        shown = (await service.status()).model_dump(mode="json", include=None if own else TOLD_TO_ALL)
    after = service.resting.state.retry_after_s or RETRY_AFTER_S
    return JSONResponse(shown, 200 if shown["ready"] else 503, None if shown["ready"] else {"retry-after": str(after)})


@router.get("/version")
async def version(service: ServiceDep) -> dict[str, Any]:
    """The version of Recollect."""
    return {"version": service.version}
