"""`/v1/admin/adapters`: which versions there are, and which one answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from recollect.errors import Forbidden
from recollect.memory import LOCAL_TENANT
from server.principal import principal_of
from server.routes.wire import Body, ServiceDep


async def of_pool(request: Request) -> None:
    """Adapters, and the engine, belong to the pool of the tenant `local`. Raises Forbidden for another's key."""
    if principal_of(request).tenant != LOCAL_TENANT:
        raise Forbidden(f"adapters and the engine are those of tenant {LOCAL_TENANT}; use a key of it", scope="admin")


router = APIRouter(dependencies=[Depends(of_pool)])


class PromoteBody(Body):
    """The version of a policy to answer with; null for the base model."""

    policy: str
    version: Annotated[int, Field(ge=1)] | None


class RollbackBody(Body):
    """The policy whose current version's parent is to answer."""

    policy: str


@router.get("/v1/admin/adapters")
async def list_adapters(service: ServiceDep) -> dict[str, Any]:
    """Every policy with its versions."""
    return await _list(service)


@router.post("/v1/admin/adapters/refresh")
async def refresh_adapters(service: ServiceDep) -> dict[str, Any]:
    """Read the registry now, and try refused versions again."""
    await service.adapters.refresh(retry_refused=True)
    return await _list(service)


@router.post("/v1/admin/adapters/promote")
async def promote_adapter(body: PromoteBody, service: ServiceDep) -> dict[str, Any]:
    """Make a version current and load it. 409 if it does not fit: then the old one is current again."""
    await service.adapters.promote(body.policy, body.version)
    return await _list(service)


@router.post("/v1/admin/adapters/rollback")
async def roll_back_adapter(body: RollbackBody, service: ServiceDep) -> dict[str, Any]:
    """Go back to the parent of the current version."""
    await service.adapters.roll_back(body.policy)
    return await _list(service)


async def _list(service: ServiceDep) -> dict[str, Any]:
    return {"object": "list", "data": [state.model_dump(mode="json") for state in await service.adapters.list()]}
