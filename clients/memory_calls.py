"""Calls of `/v1/memories`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from clients.connection import Connection, given
from clients.import_formats import Imported
from clients.memory_objects import filters_of, hit_of, operation_of, ranking_of, record_of, time_of
from recollect.errors import InvalidRequest, RecollectError
from recollect.memory import (
    MEMORY_ID,
    Applied,
    Filters,
    Kind,
    MemoryRecord,
    MemoryWrite,
    NamespaceStats,
    Ranking,
    Scalar,
    SearchHit,
    SearchMode,
    Trust,
)
from recollect.model import Record

MEMORIES = "/v1/memories"
_ROUTES = ("export", "stats")
"""What is no memory's id behind `GET /v1/memories/`."""
Clearable = Literal["importance", "valid_at", "invalid_at"]


class Forgotten(Record):
    """The certificate: what was forgotten and how that was verified. `adapters` learned from it and answer no more.

    `was` and `now` have, by policy that lost its current version, that version and what it answers with since (a version or `base`).
    """

    id: str
    scope: str
    namespace: str | None = None
    memories: int
    versions: int
    trajectories: int
    adapters: list[str]
    retired: list[str] = Field(default_factory=list[str])
    quarantined: list[str] = Field(default_factory=list[str])
    runs: list[str] = Field(default_factory=list[str])
    was: dict[str, str] = Field(default_factory=dict[str, str])
    now: dict[str, str] = Field(default_factory=dict[str, str])
    verified: str


class MemoryPage(Record):
    """Some memories, and the `seq` of the state that they are of: further pages `as_of` it fit."""

    records: list[MemoryRecord] = Field(default_factory=list[MemoryRecord])
    seq: int
    has_more: bool


class MemoryCalls(Connection):
    """The memories of a server. Without a namespace they are those of `user/default`, or of what the base URL names."""

    async def list_memories(
        self, *, namespace: str | None = None, kind: Kind | None = None, limit: int = 100, offset: int = 0, as_of: int | None = None
    ) -> list[MemoryRecord]:
        """Memories that are current, or were at `as_of`, newest first."""
        page = await self.page_of_memories(namespace=namespace, kind=kind, limit=limit, offset=offset, as_of=as_of)
        return page.records

    async def page_of_memories(
        self, *, namespace: str | None = None, kind: Kind | None = None, limit: int = 100, offset: int = 0, as_of: int | None = None
    ) -> MemoryPage:
        """As `list_memories`, with the `seq` of the state, and whether there are more."""
        params = given(namespace=namespace, kind=kind, limit=limit, offset=offset, as_of=as_of)
        found = await self._call("GET", MEMORIES, params=params)
        return MemoryPage(records=[record_of(item) for item in found["data"]], seq=found["seq"], has_more=found["has_more"])

    async def search_memories(
        self,
        query: str,
        *,
        namespace: str | None = None,
        limit: int = 10,
        mode: SearchMode = "hybrid",
        kind: Kind | None = None,
        filters: Filters = Filters(),
        ranking: Ranking = Ranking(),
        neighbours: int = 0,
        max_tokens: int | None = None,
        as_of: int | None = None,
    ) -> list[SearchHit]:
        """The best matches, best first. With `neighbours` (at most 20) each has so many of its session on either side as `context`.

        `max_tokens`: no more than fit, their contexts included, at one token per four bytes of UTF-8; the best one always.
        """
        body = given(query=query, namespace=namespace, limit=limit, mode=mode, kind=kind, max_tokens=max_tokens, as_of=as_of)
        body |= {"filters": filters_of(filters), "ranking": ranking_of(ranking), "neighbours": neighbours}
        found = await self._call("POST", f"{MEMORIES}/search", body=body)
        return [hit_of(item) for item in found["data"]]

    async def add_memory(
        self,
        text: str,
        *,
        namespace: str | None = None,
        memory_id: str | None = None,
        kind: Kind = "semantic",
        metadata: Mapping[str, Scalar] | None = None,
        tags: Sequence[str] = (),
        importance: float | None = None,
        trust: Trust = "user",
        valid_at: datetime | None = None,
        invalid_at: datetime | None = None,
        session: str | None = None,
    ) -> MemoryRecord:
        """Add one; returns after the commit. With an id of your choice the call can be repeated without harm.

        `importance` is between 0 and 1. `trust` is any but operator. Raises InvalidRequest, Conflict.
        """
        times = {"valid_at": time_of(valid_at), "invalid_at": time_of(invalid_at)}
        body = given(text=text, namespace=namespace, id=memory_id, kind=kind, metadata=dict(metadata) if metadata else None)
        body |= given(tags=list(tags), importance=importance, trust=trust, session=session, **times)
        return record_of(await self._call("POST", MEMORIES, body=body))

    async def get_memory(self, memory_id: str, *, namespace: str | None = None, as_of: int | None = None) -> MemoryRecord:
        """The version of one memory that is current, or was at `as_of`. Raises NotFound."""
        if memory_id in _ROUTES:
            [record] = await self.neighbours(memory_id, namespace=namespace, reach=0, as_of=as_of)
            return record
        return record_of(await self._call("GET", _path(memory_id), params=given(namespace=namespace, as_of=as_of)))

    async def neighbours(
        self, memory_id: str, *, namespace: str | None = None, reach: int = 2, as_of: int | None = None
    ) -> list[MemoryRecord]:
        """An episodic memory with up to `reach` (0 to 20) of its session on either side, in their order. Raises NotFound."""
        params = given(namespace=namespace, reach=reach, as_of=as_of)
        found = await self._call("GET", f"{_path(memory_id)}/neighbours", params=params)
        return [record_of(item) for item in found["data"]]

    async def update_memory(
        self,
        memory_id: str,
        text: str | None = None,
        *,
        namespace: str | None = None,
        kind: Kind | None = None,
        metadata: Mapping[str, Scalar] | None = None,
        tags: Sequence[str] | None = None,
        importance: float | None = None,
        trust: Trust | None = None,
        valid_at: datetime | None = None,
        invalid_at: datetime | None = None,
        clear: Sequence[Clearable] = (),
        if_seq: int | None = None,
    ) -> MemoryRecord:
        """A new version; returns after the commit. What is None stays, what `clear` names is taken away.

        Raises InvalidRequest, NotFound, Conflict if it is not the version of `if_seq` any more.
        """
        body = given(text=text, kind=kind, importance=importance, trust=trust, if_seq=if_seq)
        body |= given(metadata=None if metadata is None else dict(metadata), tags=None if tags is None else list(tags))
        body |= given(valid_at=time_of(valid_at), invalid_at=time_of(invalid_at)) | dict.fromkeys(clear)
        return record_of(await self._call("PATCH", _path(memory_id), params=given(namespace=namespace), body=body))

    async def undo(self, memory_id: str, *, namespace: str | None = None) -> MemoryRecord:
        """Make the version before the current one current again; a deleted memory comes back as it last was.

        Raises NotFound, Conflict if there is no earlier version.
        """
        return record_of(await self._call("POST", f"{_path(memory_id)}/undo", params=given(namespace=namespace)))

    async def delete_memory(self, memory_id: str, *, namespace: str | None = None) -> None:
        """Delete one; returns after the commit. Raises NotFound."""
        await self._call("DELETE", _path(memory_id), params=given(namespace=namespace))

    async def apply(self, writes: Sequence[MemoryWrite], *, namespace: str | None = None) -> Applied:
        """Commit 1 to 1,000 operations, all or none. An update replaces all fields. Raises InvalidRequest, NotFound, Conflict.

        Of a write's provenance only the session is sent; the rest is for the server to say.
        """
        return await self._batch([operation_of(write) for write in writes], namespace)

    async def add_memories(self, memories: Sequence[Imported], *, namespace: str | None = None) -> list[MemoryRecord]:
        """Remember up to 1,000 texts together, all or none; returns after the commit. Raises InvalidRequest, Conflict."""
        applied = await self._batch([memory.model_dump(mode="json", exclude_none=True) for memory in memories], namespace)
        return [record for record in applied.records if record is not None]

    async def export_memories(self, *, namespace: str | None = None) -> AsyncGenerator[MemoryRecord]:
        """All current memories of one moment, oldest first."""
        async with self._streamed(f"{MEMORIES}/export", given(namespace=namespace)) as response:
            rest = b""
            async for piece in response.aiter_bytes():  # not by lines: texts may hold U+2028, which is one to httpx
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield MemoryRecord.model_validate_json(line)
            if rest:
                raise RecollectError(f"the export of {self._base_url} broke off", code="broken_off")

    async def memory_stats(self, *, namespace: str | None = None) -> NamespaceStats:
        """The size of a namespace."""
        found = await self._call("GET", f"{MEMORIES}/stats", params=given(namespace=namespace))
        return NamespaceStats.model_validate({name: found[name] for name in NamespaceStats.model_fields})

    async def reembed(self, *, namespace: str | None = None) -> dict[str, int]:
        """Begin to make vectors anew that another embedder made, of one namespace or of all; how many memories of each wait."""
        found = await self._call("POST", "/v1/memories/reembed", body=given(namespace=namespace))
        return {item["namespace"]: item["without_vector"] for item in found["data"]}

    async def history(self, memory_id: str, *, namespace: str | None = None) -> list[MemoryRecord]:
        """Every version of one memory, oldest first. Raises NotFound."""
        found = await self._call("GET", f"{_path(memory_id)}/history", params=given(namespace=namespace))
        return [record_of(item) for item in found["data"]]

    async def forget(
        self, *, namespace: str | None = None, memory_id: str | None = None, session: str | None = None, everything: bool = False
    ) -> Forgotten:
        """Erase one memory, one session or everything of a namespace from all files, and what was logged of it. Raises NotFound."""
        body = given(namespace=namespace, id=memory_id, session=session, everything=everything or None)
        return Forgotten.model_validate(await self._call("POST", f"{MEMORIES}/forget", body=body))

    async def _batch(self, operations: list[dict[str, Any]], namespace: str | None) -> Applied:
        found = await self._call("POST", f"{MEMORIES}/batch", body=given(memories=operations, namespace=namespace))
        return Applied(seq=found["seq"], records=tuple(None if item is None else record_of(item) for item in found["data"]))


def _path(memory_id: str) -> str:
    # Checked here, because `a/history` is another route however it is encoded.
    if not MEMORY_ID.fullmatch(memory_id):
        raise InvalidRequest(f"{memory_id!r} is no memory id: use 1 to 128 letters, digits and '_.:-'", param="id", code="invalid_id")
    return f"{MEMORIES}/{memory_id}"
