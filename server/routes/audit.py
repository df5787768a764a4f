"""`/v1/memories/audit`: what is wrong with the memories of a namespace, and mending what was found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field

from recollect.audit import Audit, AuditOptions
from recollect.errors import InvalidRequest, RecollectError
from recollect.memory import Namespace
from server.routes.errors import body_of
from server.routes.wire import Body, ServiceDep, namespace_of, only_known_query
from server.service import Service

router = APIRouter(dependencies=[Depends(only_known_query)])
MAX_IDS = 100_000
Ids = Annotated[list[Annotated[str, Field(max_length=128)]], Field(max_length=MAX_IDS)]


class MendBody(Body):
    """Findings to mend, by the ids of the memories: exact duplicates are deleted, what holds a secret is forgotten."""

    duplicates: Ids = Field(default_factory=list[str])
    secrets: Ids = Field(default_factory=list[str])
    namespace: str | None = None
    user: str | None = None


@router.get("/v1/memories/audit", response_model=None)
async def audit(
    request: Request,
    service: ServiceDep,
    namespace: Annotated[str | None, Query(description="Whose memories; without it the one that the URL or the headers name.")] = None,
    cosine: Annotated[float, Query(ge=0.5, le=1)] = 0.95,
    overlap: Annotated[float, Query(ge=0, le=1)] = 0.5,
    unused_days: Annotated[int, Query(ge=1, le=36_500)] = 30,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    stream: bool = False,
) -> JSONResponse | StreamingResponse:
    """Duplicates, contradictions, secrets, recall loops, what is never retrieved, and sizes. Changes nothing.

    With `stream`, JSON lines: {"part", "done", "total"} while it goes on, then {"audit"} or {"error"}.
    """
    options = AuditOptions(cosine=cosine, overlap=overlap, unused_days=unused_days, limit=limit)
    whose = namespace_of(request, namespace)
    if stream:
        return StreamingResponse(_lines(service, whose, options), media_type="application/x-ndjson")
    return JSONResponse(_object(await service.auditing.audit(whose, options)))


@router.post("/v1/memories/audit")
async def mend(body: MendBody, request: Request, service: ServiceDep) -> dict[str, Any]:
    """Mend what is named, as far as it is still a finding; answered when it is durable."""
    if not body.duplicates and not body.secrets:
        raise InvalidRequest("name what to mend: ids of exact duplicates, of memories with secrets, or both", param="duplicates")
    whose = namespace_of(request, body.namespace, body.user)
    mended = await service.auditing.mend(whose, duplicates=body.duplicates, secrets=body.secrets)
    return {"object": "memory.mended", **mended.model_dump()}


async def _lines(service: Service, namespace: Namespace, options: AuditOptions) -> AsyncGenerator[str]:
    loop = asyncio.get_running_loop()
    steps: asyncio.Queue[tuple[str, int, int] | None] = asyncio.Queue()

    def tell(*step: Any) -> None:
        loop.call_soon_threadsafe(steps.put_nowait, step)

    running = asyncio.create_task(service.auditing.audit(namespace, options, tell))
    running.add_done_callback(lambda _: loop.call_soon(steps.put_nowait, None))
    try:
        while (step := await steps.get()) is not None:
            yield json.dumps(dict(zip(("part", "done", "total"), step, strict=True))) + "\n"
        try:
            yield json.dumps({"audit": _object(await running)}) + "\n"
        except RecollectError as exc:  # the status went out already
            yield json.dumps(body_of(exc)) + "\n"
    finally:
        running.cancel()


def _object(found: Audit) -> dict[str, Any]:
    return {"object": "memory.audit", **found.model_dump(mode="json")}
