"""`GET /v1/admin/usage`: who used how much, by tenant, key and day."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from recollect.memory import LOCAL_TENANT
from server.principal import principal_of
from server.routes.wire import ServiceDep, only_known_query
from server.service.usage import KEEP_DAYS

router = APIRouter(dependencies=[Depends(only_known_query)])


@router.get("/v1/admin/usage")
async def read_usage(request: Request, service: ServiceDep, days: Annotated[int, Query(ge=1, le=KEEP_DAYS)] = 30) -> dict[str, Any]:
    """Of the last `days`, today included. The home's own administrators see every tenant, those of a tenant that one alone."""
    tenant = principal_of(request).tenant
    rows = [used for used in await service.usage.since(days) if tenant in (LOCAL_TENANT, used.tenant)]
    names = {key.id: key.name for key in service.keys.all()}
    data = [used.model_dump(mode="json") | {"key_name": names.get(used.key_id or "")} for used in rows]
    return {"object": "list", "data": data}
