"""`/v1/responses/{id}`: an answer of `POST /v1/responses` is asked for again, its input too, or it is deleted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request

from recollect.errors import InvalidRequest
from server.routes.response_kept import input_items, kept_response
from server.routes.wire import ServiceDep, namespace_of, only_known_query

router = APIRouter(prefix="/v1/responses/{response_id}", dependencies=[Depends(only_known_query)])
NamespaceQuery = Annotated[str | None, Query(description="Of the answer; without it the one that the URL or the headers name.")]
UserQuery = Annotated[str | None, Query(description="The `user` of the request, where that chose the namespace.")]


@router.get("")
async def get_response(
    response_id: str, request: Request, service: ServiceDep, namespace: NamespaceQuery = None, user: UserQuery = None
) -> dict[str, Any]:
    """An answer that was given, as long as the log has it."""
    return kept_response(await service.responses.get(response_id, namespace_of(request, namespace, user)))


@router.delete("")
async def delete_response(
    response_id: str, request: Request, service: ServiceDep, namespace: NamespaceQuery = None, user: UserQuery = None
) -> dict[str, Any]:
    """Let it be found no more. The log and what was remembered stay: `/v1/memories/forget` is for that."""
    deleted = await service.responses.delete(response_id, namespace_of(request, namespace, user))
    return {"id": deleted, "object": "response", "deleted": True}


@router.get("/input_items")
async def list_input_items(
    response_id: str,
    request: Request,
    service: ServiceDep,
    namespace: NamespaceQuery = None,
    user: UserQuery = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> dict[str, Any]:
    """The conversation that it answers, newest first; `after` is the last id of the page before."""
    items = input_items(await service.responses.get(response_id, namespace_of(request, namespace, user)))
    if order == "desc":
        items.reverse()
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequest(f"after: the input has no item {after[:80]!r}", param="after")
        items = items[ids.index(after) + 1 :]
    page = items[:limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return {"object": "list", "data": page, "has_more": len(items) > limit, **ends}
