"""`/v1/memories`: list, add, search, read and delete. Every write is answered after its commit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field

from recollect.errors import InvalidRequest
from recollect.memory import Kind, MemoryWrite, Namespace, Provenance, SearchMode, Trust
from server.identity import parse_namespace
from server.routes.limits import MAX_METADATA_VALUE, MAX_QUERY
from server.routes.wire import Body, ServiceDep, batched_write, identity_of, memory_object, only_known_query, single_write

router = APIRouter(dependencies=[Depends(only_known_query)])
MAX_LIMIT = 1_000
MAX_BATCH = 1_000
NamespaceQuery = Annotated[str | None, Query(description="Of the memories; without it the one that the URL or the headers name.")]
MetadataValue = Annotated[str, Field(max_length=MAX_METADATA_VALUE)] | int | float | bool
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]


class AddBody(Body):
    """A memory to add. With an `id` of the caller's choice the request can be repeated without harm."""

    text: str
    id: str | None = None
    kind: Kind = "semantic"
    metadata: Annotated[dict[str, MetadataValue], Field(max_length=64)] | None = None
    valid_at: Annotated[datetime | None, Field(strict=False)] = None
    invalid_at: Annotated[datetime | None, Field(strict=False)] = None
    namespace: str | None = None
    user: str | None = None

    def check(self) -> None:
        """Raises InvalidRequest for a time of validity that ends before it begins. A time without a zone is the store's to refuse."""
        _check_validity(self.valid_at, self.invalid_at, "invalid_at")


class UpdateBody(Body):
    """The new text. With `if_seq`, the `seq_from` of the version that was read, nobody's change is overwritten."""

    text: str
    if_seq: Annotated[int, Field(ge=1)] | None = None


class BatchItem(Body):
    """One of several memories. Its `id` is the caller's choice, so that the batch can be sent again without harm."""

    id: str
    text: str
    kind: Kind = "semantic"
    metadata: Annotated[dict[str, MetadataValue], Field(max_length=64)] | None = None
    tags: list[str] | None = None
    importance: float | None = None
    trust: Trust = "user"
    valid_at: Annotated[datetime | None, Field(strict=False)] = None
    invalid_at: Annotated[datetime | None, Field(strict=False)] = None
    session: Annotated[str, Field(max_length=256)] | None = None
    """Episodic memories of one session are searched in their context; send them in their order."""


class BatchBody(Body):
    """Memories to add together."""

    memories: Annotated[list[BatchItem], Field(min_length=1, max_length=MAX_BATCH)]
    namespace: str | None = None
    user: str | None = None


class SearchBody(Body):
    """What to look for."""

    query: Annotated[str, Field(max_length=MAX_QUERY)]
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 10
    mode: SearchMode = "hybrid"
    kind: Kind | None = None
    namespace: str | None = None
    user: str | None = None


class ForgetBody(Body):
    """What to forget: one memory, one session, or everything of the namespace. Exactly one of them."""

    id: str | None = None
    session: str | None = None
    everything: bool = False
    namespace: str | None = None
    user: str | None = None

    def check(self) -> None:
        """Raises InvalidRequest unless exactly one thing is named, and for everything also whose."""
        if (self.id is not None) + (self.session is not None) + self.everything != 1:
            raise InvalidRequest("name what to forget: id, session or everything, one of them", param="id")
        if self.everything and self.namespace is None and self.user is None:
            raise InvalidRequest("name whose memories are to be forgotten: namespace, such as user/42", param="namespace")


@router.get("/v1/memories")
async def list_memories(
    request: Request,
    service: ServiceDep,
    namespace: NamespaceQuery = None,
    kind: Kind | None = None,
    limit: Limit = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> dict[str, Any]:
    """Current memories, newest first."""
    found = await service.memories.list(_namespace(request, namespace), limit=limit + 1, offset=offset, kind=kind)
    return {"object": "list", "data": [memory_object(record) for record in found[:limit]], "has_more": len(found) > limit}


@router.post("/v1/memories")
async def add_memory(body: AddBody, request: Request, service: ServiceDep) -> JSONResponse:
    """Add one memory; answered after the commit."""
    body.check()
    with single_write():
        record = await service.memories.add(
            _namespace(request, body.namespace, body.user),
            body.text,
            memory_id=body.id,
            kind=body.kind,
            metadata=body.metadata,
            valid_at=body.valid_at,
            invalid_at=body.invalid_at,
            channel="api",
        )
    return JSONResponse(memory_object(record), 201)


@router.post("/v1/memories/batch")
async def add_memories(body: BatchBody, request: Request, service: ServiceDep) -> JSONResponse:
    """Add memories, all or none; answered after the commit."""
    writes: list[MemoryWrite] = []
    for number, item in enumerate(body.memories):
        _check_validity(item.valid_at, item.invalid_at, f"memories[{number}].invalid_at")
        writes.append(
            MemoryWrite(
                op="add",
                **item.model_dump(exclude={"metadata", "session", "tags"}),
                metadata=item.metadata or {},
                tags=tuple(item.tags or ()),
                provenance=Provenance(channel="import", session=item.session),
            )
        )
    with batched_write():
        records = await service.memories.add_all(_namespace(request, body.namespace, body.user), writes)
    return JSONResponse({"object": "list", "data": [memory_object(record) for record in records]}, 201)


@router.post("/v1/memories/search")
async def search_memories(body: SearchBody, request: Request, service: ServiceDep) -> dict[str, Any]:
    """The best matches, best first."""
    namespace = _namespace(request, body.namespace, body.user)
    hits = await service.memories.search(namespace, body.query, limit=body.limit, mode=body.mode, kind=body.kind)
    return {"object": "list", "data": [{**memory_object(hit.record), "score": hit.score, "parts": hit.parts} for hit in hits]}


@router.post("/v1/memories/forget")
async def forget(body: ForgetBody, request: Request, service: ServiceDep) -> dict[str, Any]:
    """Erase from all files: memories in every version, and the trajectories that hold their text. Answers with the certificate."""
    body.check()
    namespace = _namespace(request, body.namespace, body.user)
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
    records = service.memories.export(_namespace(request, namespace))
    return StreamingResponse((record.model_dump_json() + "\n" async for record in records), media_type="application/x-ndjson")


@router.get("/v1/memories/stats")
async def stats(request: Request, service: ServiceDep, namespace: NamespaceQuery = None) -> dict[str, Any]:
    """The size of a namespace: memories, versions, what waits for the embedder, files."""
    whose = _namespace(request, namespace)
    found = await service.memories.stats(whose)
    return {"object": "memory.stats", "namespace": str(whose), **found.model_dump()}


@router.get("/v1/memories/{memory_id}")
async def get_memory(memory_id: str, request: Request, service: ServiceDep, namespace: NamespaceQuery = None) -> dict[str, Any]:
    """The current version of one memory."""
    return memory_object(await service.memories.get(_namespace(request, namespace), memory_id))


@router.get("/v1/memories/{memory_id}/history")
async def history(memory_id: str, request: Request, service: ServiceDep, namespace: NamespaceQuery = None) -> dict[str, Any]:
    """Every version of one memory, oldest first; `seq_to` is null in the current one."""
    versions = await service.memories.history(_namespace(request, namespace), memory_id)
    return {"object": "list", "data": [memory_object(record) for record in versions]}


@router.patch("/v1/memories/{memory_id}")
async def update_memory(
    memory_id: str, body: UpdateBody, request: Request, service: ServiceDep, namespace: NamespaceQuery = None
) -> dict[str, Any]:
    """A new version of one memory; answered after the commit. Earlier versions stay in its history."""
    with single_write():
        whose = _namespace(request, namespace)
        return memory_object(await service.memories.update(whose, memory_id, body.text, if_seq=body.if_seq, channel="api"))


@router.delete("/v1/memories/{memory_id}")
async def delete_memory(memory_id: str, request: Request, service: ServiceDep, namespace: NamespaceQuery = None) -> dict[str, Any]:
    """Delete one memory; answered after the commit."""
    await service.memories.delete(_namespace(request, namespace), memory_id)
    return {"object": "memory.deleted", "id": memory_id, "deleted": True}


def _check_validity(begin: datetime | None, end: datetime | None, param: str) -> None:
    if begin is not None and end is not None and begin.tzinfo and end.tzinfo and end <= begin:
        raise InvalidRequest("invalid_at is not after valid_at; give a later time, or leave it out", param=param)


def _namespace(request: Request, named: str | None, user: str | None = None) -> Namespace:
    """What the URL's prefix or the headers name, else the request's own field, else the user's."""
    identity = identity_of(request, user=user)
    if named is None:
        return identity.namespace
    asked = parse_namespace(named, tenant=identity.tenant)
    claimed = identity_of(request).namespace
    return asked if claimed == Namespace(tenant=identity.tenant) else claimed
