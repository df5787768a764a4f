"""`/v1/memories`: list, add, search, read, change and delete. Every write is answered after its commit."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse

from recollect.memory import Kind
from server.routes.memory_shapes import MAX_LIMIT, MAX_REACH, AddBody, BatchBody, ForgetBody, SearchBody, UpdateBody
from server.routes.wire import ServiceDep, batched_write, hit_object, memory_object, namespace_of, only_known_query, single_write

router = APIRouter(dependencies=[Depends(only_known_query)])
NamespaceQuery = Annotated[str | None, Query(description="Of the memories; without it the one that the URL or the headers name.")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
AsOf = Annotated[int | None, Query(ge=0, description="The state after this commit; without it the newest.")]


@router.get("/v1/memories")
async def list_memories(
    request: Request,
    service: ServiceDep,
    namespace: NamespaceQuery = None,
    kind: Kind | None = None,
    limit: Limit = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    as_of: AsOf = None,
) -> dict[str, Any]:
    """Memories, newest first, and the `seq` of the state that they are of: further pages `as_of` it fit."""
    whose = namespace_of(request, namespace)
    newest = await service.memories.seq(whose)
    seq = newest if as_of is None else min(as_of, newest)
    found = await service.memories.list(whose, limit=limit + 1, offset=offset, kind=kind, as_of=seq)
    return {"object": "list", "data": [memory_object(record) for record in found[:limit]], "has_more": len(found) > limit, "seq": seq}


@router.post("/v1/memories")
async def add_memory(body: AddBody, request: Request, service: ServiceDep) -> JSONResponse:
    """Add one memory; answered after the commit."""
    with single_write():
        record = await service.memories.add(
            namespace_of(request, body.namespace, body.user),
            body.text,
            memory_id=body.id,
            kind=body.kind,
            metadata=body.metadata,
            tags=body.tags or (),
            importance=body.importance,
            trust=body.trust,
            valid_at=body.valid_at,
            invalid_at=body.invalid_at,
            session=body.session,
            channel="api",
        )
    return JSONResponse(memory_object(record), 201)


@router.post("/v1/memories/batch")
async def apply_batch(body: BatchBody, request: Request, service: ServiceDep) -> JSONResponse:
    """Add, update and delete memories, all or none; answered after the commit with its `seq` and the records as they then are."""
    with batched_write():
        applied = await service.memories.apply(namespace_of(request, body.namespace, body.user), body.changes(), channel="import")
    data = [None if record is None else memory_object(record) for record in applied.records]
    return JSONResponse({"object": "list", "data": data, "seq": applied.seq}, 201)


@router.post("/v1/memories/search")
async def search_memories(body: SearchBody, request: Request, service: ServiceDep) -> dict[str, Any]:
    """The best matches, best first. With `neighbours` each has a `context`: what stands `before` and `after` it in its session."""
    hits = await service.memories.search(namespace_of(request, body.namespace, body.user), body.query, **body.asked())
    return {"object": "list", "data": [hit_object(hit) for hit in hits]}


@router.post("/v1/memories/forget")
async def forget(body: ForgetBody, request: Request, service: ServiceDep) -> dict[str, Any]:
    """Erase from all files: memories in every version, and the trajectories that hold their text. Answers with the certificate."""
    body.check()
    namespace = namespace_of(request, body.namespace, body.user)
    if body.id is not None:
        certificate = await service.forgetting.memory(namespace, body.id)
    elif body.session is not None:
        certificate = await service.forgetting.session(namespace, body.session)
    else:
        certificate = await service.forgetting.namespace(namespace)
    return {"object": "memory.forgotten", **certificate.model_dump(mode="json")}


@router.get("/v1/memories/export")
async def export(request: Request, service: ServiceDep, namespace: NamespaceQuery = None) -> StreamingResponse:
    """All current memories as JSON lines, oldest first, of one moment."""
    records = service.memories.export(namespace_of(request, namespace))
    return StreamingResponse((record.model_dump_json() + "\n" async for record in records), media_type="application/x-ndjson")


@router.get("/v1/memories/stats")
async def stats(request: Request, service: ServiceDep, namespace: NamespaceQuery = None) -> dict[str, Any]:
    """The size of a namespace: memories, versions, what waits for the embedder, files."""
    whose = namespace_of(request, namespace)
    found = await service.memories.stats(whose)
    return {"object": "memory.stats", "namespace": str(whose), **found.model_dump()}


@router.get("/v1/memories/{memory_id}")
async def get_memory(
    memory_id: str, request: Request, service: ServiceDep, namespace: NamespaceQuery = None, as_of: AsOf = None
) -> dict[str, Any]:
    """One memory, in the version that is current, or was at `as_of`."""
    return memory_object(await service.memories.get(namespace_of(request, namespace), memory_id, as_of=as_of))


@router.get("/v1/memories/{memory_id}/history")
async def history(memory_id: str, request: Request, service: ServiceDep, namespace: NamespaceQuery = None) -> dict[str, Any]:
    """Every version of one memory, oldest first; `seq_to` is null in the current one."""
    versions = await service.memories.history(namespace_of(request, namespace), memory_id)
    return {"object": "list", "data": [memory_object(record) for record in versions]}


@router.get("/v1/memories/{memory_id}/neighbours")
async def neighbours(
    memory_id: str,
    request: Request,
    service: ServiceDep,
    namespace: NamespaceQuery = None,
    reach: Annotated[int, Query(ge=0, le=MAX_REACH)] = 2,
    as_of: AsOf = None,
) -> dict[str, Any]:
    """An episodic memory with up to `reach` memories of its session before and after it, in their order; another one alone."""
    found = await service.memories.neighbours(namespace_of(request, namespace), memory_id, reach=reach, as_of=as_of)
    return {"object": "list", "data": [memory_object(record) for record in found]}


@router.patch("/v1/memories/{memory_id}")
async def update_memory(
    memory_id: str, body: UpdateBody, request: Request, service: ServiceDep, namespace: NamespaceQuery = None
) -> dict[str, Any]:
    """A new version of one memory; answered after the commit. Earlier versions stay in its history."""
    with single_write():
        return memory_object(await service.memories.update(namespace_of(request, namespace), body.change(memory_id), channel="api"))


@router.post("/v1/memories/{memory_id}/undo")
async def undo(memory_id: str, request: Request, service: ServiceDep, namespace: NamespaceQuery = None) -> dict[str, Any]:
    """Make the version before the current one current again, as a new version; a deleted memory comes back as it last was."""
    with single_write():
        return memory_object(await service.memories.undo(namespace_of(request, namespace), memory_id, channel="api"))


@router.delete("/v1/memories/{memory_id}")
async def delete_memory(memory_id: str, request: Request, service: ServiceDep, namespace: NamespaceQuery = None) -> dict[str, Any]:
    """Delete one memory; answered after the commit."""
    await service.memories.delete(namespace_of(request, namespace), memory_id)
    return {"object": "memory.deleted", "id": memory_id, "deleted": True}
