"""What the tools answer, as structured output."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from recollect.memory import MemoryRecord


class FoundMemory(BaseModel):
    """A memory."""

    id: str
    text: str
    kind: str
    created_at: datetime
    score: float | None = None


class FoundMemories(BaseModel):
    """Memories, best first."""

    namespace: str
    memories: list[FoundMemory]


class AddedMemory(BaseModel):
    """A memory that is committed."""

    id: str
    namespace: str
    text: str


class WholeMemory(FoundMemory):
    """A memory with all that is known of it."""

    namespace: str
    metadata: dict[str, str | int | float | bool | None]
    tags: list[str]
    trust: str
    valid_at: datetime | None
    session: str | None
    versions: int


class UpdatedMemory(BaseModel):
    """A memory as it is now; the version before is kept in its history."""

    id: str
    namespace: str
    text: str
    seq: int


class DeletedMemory(BaseModel):
    """A memory that was deleted."""

    id: str
    namespace: str
    deleted: bool


class AgentAnswer(BaseModel):
    """An agent's answer; its trajectory_id is what feedback refers to."""

    answer: str
    agent: str
    trajectory_id: str
    memory_ids: list[str]


class Noted(BaseModel):
    """Feedback that is in the log."""

    trajectory_id: str


class Document(BaseModel):
    """A text that was uploaded."""

    file_id: str
    filename: str
    bytes: int


class Documents(BaseModel):
    """Texts that may be read, newest first."""

    documents: list[Document]


class Reading(BaseModel):
    """How far a reading is. `status`: running, done, failed or cancelled."""

    reading_id: str
    status: str
    sections_read: int
    answer: str | None = None
    error: str | None = None


class Thoughts(BaseModel):
    """What a model answered, and who failed before it."""

    answer: str
    model: str
    trajectory_id: str
    failed: list[str]


class ProviderModel(BaseModel):
    """A model that can be asked."""

    model: str
    kind: str
    ready: bool
    detail: str
    vision: bool
    cost: float


class Providers(BaseModel):
    """Who can be asked, and for what."""

    allow: list[str]
    models: list[ProviderModel]
    types: list[str]


class WorkerState(BaseModel):
    """`state`: running, done, failed, interrupted, closed."""

    worker_id: str
    state: str
    description: str
    model: str
    answer: str
    error: str
    trajectory_id: str


class WorkerList(BaseModel):
    """Workers, newest first."""

    workers: list[WorkerState]


class ServerStatus(BaseModel):
    """Where the server stands."""

    ready: bool
    detail: str
    version: str
    agents: list[str]
    policies: dict[str, str]
    namespace: str


def found(record: MemoryRecord, score: float | None) -> FoundMemory:
    """A record as a search shows it."""
    return FoundMemory(id=record.id, text=record.text, kind=record.kind, created_at=record.created_at, score=score)


def whole_memory(record: MemoryRecord, versions: int) -> WholeMemory:
    """A record with how many versions it has had."""
    return WholeMemory(
        **found(record, None).model_dump(),
        namespace=record.namespace,
        metadata=dict(record.metadata),
        tags=list(record.tags),
        trust=record.trust,
        valid_at=record.valid_at,
        session=record.provenance.session,
        versions=versions,
    )
