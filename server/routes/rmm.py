"""`/v1/admin/rerankers` and `/v1/admin/reflect`: what `rmm` learned of a tenant's answers, and topic memories of a session that ended."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from server.principal import principal_of
from server.routes.wire import Body, ServiceDep, identity_of, memory_object, namespace_of, only_known_query

router = APIRouter(dependencies=[Depends(only_known_query)])


class FreezeBody(Body):
    """Whether the tenant's reranker stops learning."""

    frozen: bool


class RollbackBody(Body):
    """The step, of those kept, whose weights are to choose again."""

    step: Annotated[int, Field(ge=0)]


class ReflectBody(Body):
    """The session that has ended, and whose memory it is."""

    session: Annotated[str, Field(min_length=1, max_length=256)]
    namespace: str | None = None
    user: str | None = None


@router.get("/v1/admin/rerankers")
async def list_rerankers(request: Request, service: ServiceDep) -> dict[str, Any]:
    """Where the tenant's rerankers stand, one for each embedder that was in use."""
    return await _list(identity_of(request).tenant, service)


@router.post("/v1/admin/rerankers/freeze")
async def freeze_rerankers(body: FreezeBody, request: Request, service: ServiceDep) -> dict[str, Any]:
    """Stop or resume learning; what was learned stays in use."""
    tenant = identity_of(request).tenant
    await asyncio.to_thread(service.rerankers.freeze, tenant, frozen=body.frozen)
    return await _list(tenant, service)


@router.post("/v1/admin/rerankers/rollback")
async def roll_back_rerankers(body: RollbackBody, request: Request, service: ServiceDep) -> dict[str, Any]:
    """Go back to the weights of a kept step. 404 for another one; it names those that are kept."""
    tenant = identity_of(request).tenant
    await asyncio.to_thread(service.rerankers.roll_back, tenant, body.step)
    return await _list(tenant, service)


@router.post("/v1/admin/reflect")
async def reflect(body: ReflectBody, request: Request, service: ServiceDep) -> dict[str, Any]:
    """The topic memories that were written or changed; none for a session in which nothing new was said."""
    principal_of(request).require("memory")  # it reads and writes memories
    records = await service.reflecting.reflect(namespace_of(request, body.namespace, body.user), body.session)
    return {"object": "list", "data": [memory_object(record) for record in records]}


async def _list(tenant: str, service: ServiceDep) -> dict[str, Any]:
    states = await asyncio.to_thread(service.rerankers.states, tenant)
    return {"object": "list", "data": [state.model_dump(mode="json") for state in states]}
