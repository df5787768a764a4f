"""`POST /v1/memories/reembed`: vectors of another embedder are made anew, in the background."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request

from server.identity import parse_namespace
from server.routes.wire import Body, ServiceDep, identity_of, only_known_query

router = APIRouter(dependencies=[Depends(only_known_query)])


class ReembedBody(Body):
    """Whose vectors; without a namespace those of all namespaces."""

    namespace: str | None = None


@router.post("/v1/memories/reembed")
async def reembed(body: ReembedBody, request: Request, service: ServiceDep) -> dict[str, Any]:
    """Answers at once, with what is left to do; `/v1/memories/stats` shows how it goes on."""
    tenant = identity_of(request).tenant
    asked = [parse_namespace(body.namespace, tenant=tenant)] if body.namespace else await service.memories.of_tenant(tenant)
    waiting = await service.memories.reembed(asked)
    return {"object": "list", "data": [{"namespace": str(whose), "without_vector": count} for whose, count in waiting.items()]}
