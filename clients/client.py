"""The async Python client of a running server: memories, feedback, adapters, status."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

import httpx
from pydantic import Field

from clients.audit import MemoryAudits
from clients.import_formats import Imported
from recollect.errors import (
    Conflict,
    EngineError,
    EngineUnavailable,
    InvalidRequest,
    NotFound,
    RecollectError,
    StorageFull,
)
from recollect.memory import Kind, MemoryRecord, NamespaceStats, Scalar, SearchHit, SearchMode
from recollect.model import Record
from recollect.trajectory import Feedback

_ERRORS: dict[int, type[RecollectError]] = {
    400: InvalidRequest,
    404: NotFound,
    409: Conflict,
    413: InvalidRequest,
    422: InvalidRequest,
    502: EngineError,
    507: StorageFull,
}


class AdapterVersion(Record):
    """One published version. `refused` says why it is not served although it was made current."""

    version: int
    name: str
    loaded: bool = False
    in_flight: int = 0
    refused: str | None = None


class AdapterState(Record):
    """A policy, the version that its pointer names (None: the base model), what answers now if anything does, all versions."""

    policy: str
    pool: str
    current: int | None = None
    serving: str | None = None
    versions: list[AdapterVersion] = Field(default_factory=list[AdapterVersion])


class Forgotten(Record):
    """The certificate: what was forgotten and how that was verified. `adapters` learned from it and were not retrained."""

    id: str
    scope: str
    namespace: str | None = None
    memories: int
    versions: int
    trajectories: int
    adapters: list[str]
    verified: str


class RecollectClient:
    """Calls a server's API. Errors of the server are raised as the types of `recollect.errors`. Use it as `async with`."""

    def __init__(self, base_url: str, api_key: str | None = None, *, timeout_s: float = 60.0) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._base_url = base_url.rstrip("/")
        self._http = httpx.AsyncClient(base_url=self._base_url, headers=headers, timeout=timeout_s, trust_env=False)
        self.audits = MemoryAudits(self._http, error_of)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._http.aclose()

    async def list_memories(
        self, *, namespace: str | None = None, kind: Kind | None = None, limit: int = 100, offset: int = 0
    ) -> list[MemoryRecord]:
        """Current memories, newest first."""
        found = await self._call("GET", "/v1/memories", params=_given(namespace=namespace, kind=kind, limit=limit, offset=offset))
        return [_record(item) for item in found["data"]]

    async def search_memories(
        self, query: str, *, namespace: str | None = None, limit: int = 10, mode: SearchMode = "hybrid", kind: Kind | None = None
    ) -> list[SearchHit]:
        """The best matches, best first."""
        body = _given(query=query, namespace=namespace, limit=limit, mode=mode, kind=kind)
        found = await self._call("POST", "/v1/memories/search", json=body)
        return [SearchHit(score=item.pop("score"), parts=item.pop("parts"), record=_record(item)) for item in found["data"]]

    async def add_memory(
        self,
        text: str,
        *,
        namespace: str | None = None,
        memory_id: str | None = None,
        kind: Kind = "semantic",
        metadata: Mapping[str, Scalar] | None = None,
    ) -> MemoryRecord:
        """Add one; returns after the commit. With an id of your choice the call can be repeated without harm."""
        body = _given(text=text, namespace=namespace, id=memory_id, kind=kind, metadata=dict(metadata) if metadata else None)
        return _record(await self._call("POST", "/v1/memories", json=body))

    async def get_memory(self, memory_id: str, *, namespace: str | None = None) -> MemoryRecord:
        """The current version of one memory. Raises NotFound."""
        return _record(await self._call("GET", f"/v1/memories/{memory_id}", params=_given(namespace=namespace)))

    async def update_memory(self, memory_id: str, text: str, *, namespace: str | None = None, if_seq: int | None = None) -> MemoryRecord:
        """A new version; returns after the commit. Raises NotFound, Conflict if it is not the version of `if_seq` any more."""
        body = _given(text=text, if_seq=if_seq)
        return _record(await self._call("PATCH", f"/v1/memories/{memory_id}", params=_given(namespace=namespace), json=body))

    async def delete_memory(self, memory_id: str, *, namespace: str | None = None) -> None:
        """Delete one; returns after the commit. Raises NotFound."""
        await self._call("DELETE", f"/v1/memories/{memory_id}", params=_given(namespace=namespace))

    async def add_memories(self, memories: Sequence[Imported], *, namespace: str | None = None) -> list[MemoryRecord]:
        """Remember up to 1,000 texts together, all or none; returns after the commit. Raises InvalidRequest, Conflict."""
        items = [memory.model_dump(mode="json", exclude_none=True) for memory in memories]
        found = await self._call("POST", "/v1/memories/batch", json=_given(memories=items, namespace=namespace))
        return [_record(item) for item in found["data"]]

    async def export_memories(self, *, namespace: str | None = None) -> AsyncGenerator[MemoryRecord]:
        """All current memories of one moment, oldest first."""
        async with self._http.stream("GET", "/v1/memories/export", params=_given(namespace=namespace)) as response:
            if response.status_code >= 400:
                await response.aread()
                raise error_of(response)
            rest = b""
            async for piece in response.aiter_bytes():  # not by lines: texts may hold U+2028, which is one to httpx
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield MemoryRecord.model_validate_json(line)
            if rest:
                raise RecollectError(f"the export of {self._base_url} broke off", code="broken_off")

    async def memory_stats(self, *, namespace: str | None = None) -> NamespaceStats:
        """The size of a namespace."""
        found = await self._call("GET", "/v1/memories/stats", params=_given(namespace=namespace))
        return NamespaceStats.model_validate({name: found[name] for name in NamespaceStats.model_fields})

    async def reembed(self, *, namespace: str | None = None) -> dict[str, int]:
        """Begin to make vectors anew that another embedder made, of one namespace or of all; how many memories of each wait."""
        found = await self._call("POST", "/v1/memories/reembed", json=_given(namespace=namespace))
        return {item["namespace"]: item["without_vector"] for item in found["data"]}

    async def history(self, memory_id: str, *, namespace: str | None = None) -> list[MemoryRecord]:
        """Every version of one memory, oldest first. Raises NotFound."""
        found = await self._call("GET", f"/v1/memories/{memory_id}/history", params=_given(namespace=namespace))
        return [_record(item) for item in found["data"]]

    async def forget(
        self, *, namespace: str | None = None, memory_id: str | None = None, session: str | None = None, everything: bool = False
    ) -> Forgotten:
        """Erase one memory, one session or everything of a namespace from all files, and what was logged of it. Raises NotFound."""
        body = _given(namespace=namespace, id=memory_id, session=session, everything=everything or None)
        return Forgotten.model_validate(await self._call("POST", "/v1/memories/forget", json=body))

    async def send_feedback(self, feedback: Feedback) -> str:
        """Say what you think of an answer; returns the trajectory's id once that is durable. Raises NotFound."""
        found = await self._call("POST", "/v1/feedback", json=feedback.model_dump(mode="json", exclude_none=True))
        return found["trajectory_id"]

    async def adapters(self) -> list[AdapterState]:
        """Every policy with its versions."""
        return _states(await self._call("GET", "/v1/admin/adapters"))

    async def promote(self, policy: str, version: int | None) -> list[AdapterState]:
        """Answer with this version from now on; None: with the base model. Raises NotFound, Conflict."""
        return _states(await self._call("POST", "/v1/admin/adapters/promote", json={"policy": policy, "version": version}))

    async def roll_back(self, policy: str) -> list[AdapterState]:
        """Go back to the parent of the current version. Raises NotFound, Conflict."""
        return _states(await self._call("POST", "/v1/admin/adapters/rollback", json={"policy": policy}))

    async def refresh_adapters(self) -> list[AdapterState]:
        """Have the registry read now, and refused versions tried again."""
        return _states(await self._call("POST", "/v1/admin/adapters/refresh"))

    async def status(self) -> dict[str, Any]:
        """What `/ready` says: `ready`, and what is missing. A server that is not ready is no error here."""
        return await self._call("GET", "/ready", accepted=(200, 503))

    async def _call(self, method: str, path: str, *, accepted: tuple[int, ...] = (200, 201), **content: Any) -> dict[str, Any]:
        try:
            response = await self._http.request(method, path, **content)
        except httpx.TransportError as exc:
            reason = str(exc) or type(exc).__name__
            raise RecollectError(
                f"no answer from {self._base_url} ({reason}); start the server: recollect serve", code="unreachable"
            ) from exc
        if response.status_code not in accepted:
            raise error_of(response)
        return cast("dict[str, Any]", response.json())


def error_of(response: httpx.Response) -> RecollectError:
    """The error that an OpenAI error body tells of."""
    error: dict[str, Any] = {}
    if response.headers.get("content-type", "").startswith("application/json"):
        content = response.json()
        if isinstance(content, dict):
            found: Any = cast("dict[str, Any]", content).get("error")
            error = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    message = str(error.get("message") or f"the server answered {response.status_code} to {response.request.method} {response.request.url}")
    if response.status_code == 503:
        return EngineUnavailable(message, retry_after_s=int(response.headers.get("retry-after", 5)))
    return _ERRORS.get(response.status_code, RecollectError)(message, param=error.get("param"), code=error.get("code"))


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _record(item: Mapping[str, Any]) -> MemoryRecord:
    return MemoryRecord.model_validate({name: value for name, value in item.items() if name != "object"})


def _states(found: dict[str, Any]) -> list[AdapterState]:
    return [AdapterState.model_validate(item) for item in found["data"]]
