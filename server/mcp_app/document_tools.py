"""The tools on long documents: read one with the `reader`, which may take longer than a call, so that it is begun and asked about."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from recollect.errors import InvalidRequest
from recollect.messages import Message, user
from server.identity import Identity, session_of
from server.mcp_app.calls import Whose, caller, namespace_of, told
from server.mcp_app.shapes import DeletedMemory, Document, Documents, Reading
from server.mcp_app.strict import hints, tool_of
from server.routes.limits import MAX_QUERY
from server.service import ChatRequest, Service
from server.service.files import FileRecord
from server.service.readings import Progress

MAX_WAIT_S = 50.0
"""Under the minute after which clients give a call up."""
MAX_LISTED = 100
READER = "reader"
Wait = Annotated[float, Field(ge=0, le=MAX_WAIT_S, description="How many seconds to wait for the end.")]
ReadingId = Annotated[str, Field(min_length=1, max_length=64, description="What read_document gave.")]


def document_tools(service: Service) -> list[Tool]:
    """They read what is uploaded at `/v1/files`, or a text that is given."""

    async def add_document(
        text: Annotated[str, Field(min_length=1, description="The whole text.")],
        ctx: Context[Any, Any],
        filename: Annotated[str, Field(min_length=1, max_length=256)] = "document.txt",
    ) -> Document:
        """Keep a text, to ask several questions of it. Longer ones are uploaded at /v1/files."""
        async with told(ctx, "chat"):
            upload = service.files.begin(namespace_of(ctx, None))
            try:
                await asyncio.to_thread(upload.write, text.encode())
                return _document(await asyncio.to_thread(upload.finish, filename, "user_data"))
            finally:
                upload.discard()

    async def list_documents(ctx: Context[Any, Any]) -> Documents:
        """The texts that were uploaded, newest first."""
        async with told(ctx, "chat"):
            records = await asyncio.to_thread(service.files.list, caller(ctx).tenant)
            return Documents(documents=[_document(record) for record in records[:MAX_LISTED]])

    async def delete_document(file_id: str, ctx: Context[Any, Any]) -> DeletedMemory:
        """Delete one text that was uploaded."""
        async with told(ctx, "chat"):
            await asyncio.to_thread(service.files.delete, caller(ctx).tenant, file_id)
            return DeletedMemory(id=file_id, namespace=str(namespace_of(ctx, None)), deleted=True)

    async def read_document(
        question: Annotated[str, Field(min_length=1, max_length=MAX_QUERY, description="What to find out.")],
        ctx: Context[Any, Any],
        file_id: Annotated[str | None, Field(description="A text that was uploaded.")] = None,
        text: Annotated[str | None, Field(description="Or the text itself.")] = None,
        wait_s: Wait = 20.0,
        namespace: Whose = None,
    ) -> Reading:
        """Read a document of any length, section by section, and answer from it. If it is still running, ask get_reading."""
        async with told(ctx, "chat"):
            if (file_id is None) == (text is None):
                raise InvalidRequest("give file_id or text, one of them", param="file_id")
            document = Message(role="user", content="", file_id=file_id) if file_id is not None else user(text or "")
            whose = namespace_of(ctx, namespace)
            messages = (document, user(question))
            request = ChatRequest(
                model=READER,
                messages=messages,
                identity=Identity(whose, caller(ctx).key_id),
                session=session_of({}, {}, messages, whose),
                channel="mcp",
                attached=file_id is not None,
            )
            reading_id = await service.readings.begin(request)
            return _reading(await service.readings.progress(reading_id, whose, wait_s=wait_s))

    async def get_reading(reading_id: ReadingId, ctx: Context[Any, Any], wait_s: Wait = 20.0, namespace: Whose = None) -> Reading:
        """How far a reading is, and its answer when it is done."""
        async with told(ctx, "chat"):
            return _reading(await service.readings.progress(reading_id, namespace_of(ctx, namespace), wait_s=wait_s))

    async def cancel_reading(reading_id: ReadingId, ctx: Context[Any, Any], namespace: Whose = None) -> Reading:
        """Stop a reading."""
        async with told(ctx, "chat"):
            return _reading(await service.readings.cancel(reading_id, namespace_of(ctx, namespace)))

    return [
        tool_of(read_document, hints("Read a document")),
        tool_of(get_reading, hints("Get a reading", read_only=True)),
        tool_of(cancel_reading, hints("Cancel a reading", idempotent=True)),
        tool_of(add_document, hints("Add a document")),
        tool_of(list_documents, hints("List documents", read_only=True)),
        tool_of(delete_document, hints("Delete a document", destructive=True, idempotent=True)),
    ]


def _document(record: FileRecord) -> Document:
    return Document(file_id=record.id, filename=record.filename, bytes=record.bytes)


def _reading(progress: Progress) -> Reading:
    return Reading(
        reading_id=progress.id,
        status=progress.status,
        sections_read=progress.sections,
        answer=progress.answer,
        error=progress.error,
    )
