"""`GET /v1/models`: the agents first, then the base model that they stand on."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from recollect.errors import NotFound
from server.routes.wire import ServiceDep

router = APIRouter()


@router.get("/v1/models")
async def list_models(service: ServiceDep) -> dict[str, Any]:
    """What `model` may be in a chat request."""
    return {"object": "list", "data": _models(service)}


@router.get("/v1/models/{model:path}")
async def get_model(model: str, service: ServiceDep) -> dict[str, Any]:
    """One of them."""
    for found in _models(service):
        if found["id"] == model:
            return found
    raise NotFound(f"no model {model!r}; this server has: {', '.join(service.models)}", param="model", code="model_not_found")


def _models(service: ServiceDep) -> list[dict[str, Any]]:
    created = int(service.started_at.timestamp())
    return [{"id": model, "object": "model", "created": created, "owned_by": "recollect"} for model in service.models]
