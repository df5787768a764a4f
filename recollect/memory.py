"""The nouns of memory and the one protocol that every store and fork implements.

`seq` counts the commits of a namespace. A physical row is (`id`, `seq_from`); it is closed by setting `seq_to` and never
edited, so the state as of `s` is `seq_from <= s and (seq_to is None or seq_to > s)`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal, Protocol
from urllib.parse import quote, unquote

from pydantic import Field

from recollect.errors import InvalidRequest
from recollect.model import Frozen, Record

Kind = Literal["semantic", "episodic", "procedural"]
Trust = Literal["operator", "user", "tool", "unknown"]
SearchMode = Literal["hybrid", "dense", "text"]
Scalar = str | int | float | bool

LOCAL_TENANT = "local"
TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MEMORY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
MAX_TEXT = 32_768


def content_hash(text: str) -> str:
    """sha256 of the text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


class Namespace(Frozen):
    """A tenant, then `kind/name` parts: where a memory lives, and the only thing that is searched together."""

    tenant: str = LOCAL_TENANT
    parts: tuple[tuple[str, str], ...] = (("user", "default"),)

    def __str__(self) -> str:
        return ":".join(f"{kind}/{quote(name, safe='')}" for kind, name in self.parts)

    @classmethod
    def parse(cls, text: str, *, tenant: str = LOCAL_TENANT) -> Namespace:
        """Read `user/42:agent/coach` (names percent-encoded). Raises InvalidRequest for anything else."""
        if not TENANT.fullmatch(tenant):
            raise InvalidRequest(f"{tenant!r} is no tenant: use lower-case letters, digits, '-' and '_'", param="tenant")
        parts: list[tuple[str, str]] = []
        for part in text.split(":"):
            kind, slash, name = part.partition("/")
            if not slash or not _KIND.fullmatch(kind) or not name or len(unquote(name)) > 256:
                raise InvalidRequest(f"{text!r} is no namespace: write it as user/42 or user/42:agent/coach", param="namespace")
            parts.append((kind, unquote(name)))
        return cls(tenant=tenant, parts=tuple(parts))


class Provenance(Record):
    """Which step of which trajectory wrote a memory, in which session, and by which channel (chat, mcp, api, import, training).

    Episodic memories of one session are searched in their context: the turns before and after each.
    """

    trajectory_id: str | None = None
    step: int | None = None
    session: str | None = None
    channel: str = "api"


class MemoryRecord(Record):
    """One version of one memory. Times are aware datetimes; `seq_to` is None while the version is current."""

    id: str
    namespace: str
    kind: Kind
    text: str
    metadata: dict[str, Scalar] = Field(default_factory=dict[str, Scalar])
    valid_at: datetime | None = None
    invalid_at: datetime | None = None
    seq_from: int
    seq_to: int | None = None
    created_at: datetime
    provenance: Provenance = Provenance()
    trust: Trust = "unknown"
    content_hash: str


class MemoryWrite(Frozen):
    """One operation of a batch. `id` is the caller's choice, so that a repeated batch is idempotent.

    An `add` of an id whose current text is the same is a no-op; with another text it is refused (Conflict).
    `update` and `delete` of an unknown id are refused (NotFound), and with `if_seq` also of a version that was not written
    at that `seq` (Conflict): somebody changed it since it was read.
    """

    op: Literal["add", "update", "delete"]
    id: str
    text: str = ""
    kind: Kind = "semantic"
    metadata: dict[str, Scalar] = Field(default_factory=dict[str, Scalar])
    valid_at: datetime | None = None
    invalid_at: datetime | None = None
    provenance: Provenance = Provenance()
    trust: Trust = "unknown"
    if_seq: int | None = None


class Applied(Frozen):
    """A committed batch: the `seq` after it and the records as they now are (None for a deleted one)."""

    seq: int
    records: tuple[MemoryRecord | None, ...]


class SearchHit(Frozen):
    """A record, its score (higher is better) and the parts of the score: `dense` cosine, `text` BM25, and for episodic
    records with neighbours the same of their context, `dense_context` and `text_context`."""

    record: MemoryRecord
    score: float
    parts: dict[str, float] = Field(default_factory=dict[str, float])


class NamespaceStats(Frozen):
    """The size of a namespace. `without_vector`: current memories that wait for the embedder (0 if there is none)."""

    seq: int = 0
    memories: int = 0
    versions: int = 0
    """Of memories, the current ones and the closed ones."""
    by_kind: dict[str, int] = Field(default_factory=dict[str, int])
    without_vector: int = 0
    fragments: int = 0
    table_versions: int = 0
    bytes: int = 0
    """On the disk, with indexes and replaced files that are still kept for other readers."""


class MemoryStore(Protocol):
    """What agents, services and environments remember with. A fork implements it too, over one namespace."""

    async def apply(self, namespace: Namespace, writes: Sequence[MemoryWrite]) -> Applied:
        """Commit `writes`, all or nothing; returns after the commit. Raises InvalidRequest, NotFound, Conflict, StorageFull."""
        ...

    async def get(self, namespace: Namespace, memory_id: str, *, as_of: int | None = None) -> MemoryRecord | None:
        """The version that is current, or was current at `as_of`."""
        ...

    async def list(
        self, namespace: Namespace, *, limit: int = 100, offset: int = 0, kind: Kind | None = None, as_of: int | None = None
    ) -> list[MemoryRecord]:
        """Current records, newest first."""
        ...

    async def search(
        self,
        namespace: Namespace,
        query: str,
        *,
        limit: int = 10,
        mode: SearchMode = "hybrid",
        kind: Kind | None = None,
        as_of: int | None = None,
    ) -> list[SearchHit]:
        """The best `limit` records, best first. Without an embedder, dense parts are left out. Raises EmbedderError."""
        ...

    async def history(self, namespace: Namespace, memory_id: str) -> list[MemoryRecord]:
        """All versions of one memory, oldest first."""
        ...

    async def seq(self, namespace: Namespace) -> int:
        """The number of the last commit; 0 for a namespace never written."""
        ...

    async def fork(self, namespace: Namespace, *, as_of: int | None = None) -> MemoryStore:
        """A cheap private copy of one namespace as of a `seq`; what is written to it is seen by nobody else."""
        ...

    async def namespaces(self, tenant: str) -> Sequence[Namespace]:
        """Every namespace of a tenant that holds or held a memory."""
        ...

    async def close(self) -> None:
        """Commit what is queued and release files."""
        ...


class LocalStore(MemoryStore, Protocol):
    """A store with files: they can be made to forget, and have a size. Forks are none: nothing of theirs reaches the disk."""

    async def find(self, namespace: Namespace, chosen: Callable[[MemoryRecord], bool]) -> Sequence[MemoryRecord]:
        """Every version of every memory of which `chosen` holds for one version: what `erase` would erase."""
        ...

    async def erase(self, namespace: Namespace, chosen: Callable[[MemoryRecord], bool]) -> Sequence[MemoryRecord]:
        """Erase memories of which `chosen` holds for any version, for every `seq`; returns all versions that were erased.

        Raises RecollectError if the files that are left hold some of it.
        """
        ...

    async def stats(self, namespace: Namespace) -> NamespaceStats:
        """The size of a namespace; all zero for one never written."""
        ...

    async def drop(self, namespace: Namespace) -> Sequence[MemoryRecord]:
        """Erase a whole namespace, its name on the disk included; returns all versions that were erased."""
        ...
