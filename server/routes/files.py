"""`/v1/files`: upload a text, list, look at, download and delete files. The shapes are OpenAI's."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse

from recollect.errors import InvalidRequest
from server.routes.upload import Form
from server.routes.wire import ServiceDep, identity_of, only_known_query
from server.service.files import FileRecord

PURPOSES = ("user_data", "assistants")
MAX_LISTED = 10_000
router = APIRouter(dependencies=[Depends(only_known_query)])


@router.post("/v1/files")
async def upload_file(request: Request, service: ServiceDep) -> dict[str, Any]:
    """Keep the part `file`, a text in UTF-8. It goes to the disk as it comes; answered once it is durable."""
    upload = service.files.begin(identity_of(request).namespace)
    try:
        form = Form(request.headers.get("content-type", ""), upload)
        await form.read(request.stream())
        purpose = form.fields.get("purpose")
        if purpose not in PURPOSES:
            raise InvalidRequest(
                f"purpose is {purpose!r}; use {' or '.join(PURPOSES)}: files are read, and for nothing else",
                param="purpose",
                code="invalid_value" if purpose else "missing_required_parameter",
            )
        return file_object(await asyncio.to_thread(upload.finish, form.filename or "", purpose))
    finally:
        upload.discard()


@router.get("/v1/files")
async def list_files(
    request: Request,
    service: ServiceDep,
    purpose: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = MAX_LISTED,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> dict[str, Any]:
    """The tenant's files, newest first; `after` is the last id of the page before."""
    found = await asyncio.to_thread(service.files.list, identity_of(request).tenant)
    if order == "asc":
        found = found[::-1]
    if after is not None:
        found = [record for record in found if (record.id > after if order == "asc" else record.id < after)]
    data = [file_object(record) for record in found if purpose in (None, record.purpose)]
    page = data[:limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return {"object": "list", "data": page, "has_more": len(data) > limit, **ends}


@router.get("/v1/files/{file_id}")
async def get_file(file_id: str, request: Request, service: ServiceDep) -> dict[str, Any]:
    """What is known of one file."""
    return file_object(service.files.get(identity_of(request).tenant, file_id))


@router.get("/v1/files/{file_id}/content")
async def get_content(file_id: str, request: Request, service: ServiceDep) -> FileResponse:
    """Its text, as it was uploaded."""
    tenant = identity_of(request).tenant
    record = service.files.get(tenant, file_id)
    return FileResponse(service.files.path(tenant, file_id), media_type="text/plain; charset=utf-8", filename=record.filename)


@router.delete("/v1/files/{file_id}")
async def delete_file(file_id: str, request: Request, service: ServiceDep) -> dict[str, Any]:
    """Remove it from the disk. What trajectories hold of it goes when its user is forgotten."""
    await asyncio.to_thread(service.files.delete, identity_of(request).tenant, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def file_object(record: FileRecord) -> dict[str, Any]:
    """A file as OpenAI's API shows it, with the `namespace` that it belongs to."""
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.bytes,
        "created_at": int(record.created_at.timestamp()),
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "processed",
        "expires_at": None,
        "namespace": record.namespace,
    }
