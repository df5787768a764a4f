"""The nouns of memory; `recollect/stores.py` says what a store of them does.

`seq` counts the commits of a namespace. A physical row is (`id`, `seq_from`); it is closed by setting `seq_to` and never
edited, so the state as of `s` is `seq_from <= s and (seq_to is None or seq_to > s)`.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Literal
from urllib.parse import quote, unquote

from pydantic import Field

from recollect.errors import InvalidRequest
from recollect.model import Frozen, Record

Kind = Literal["semantic", "episodic", "procedural"]
Trust = Literal["operator", "user", "assistant", "tool", "document", "unknown"]
"""Who said it. What a tool returned or a document holds is nobody's word about the user."""
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
    tags: tuple[str, ...] = ()
    importance: float | None = None
    """0 to 1; None: nobody said."""
    content_hash: str


def about(record: MemoryRecord) -> datetime:
    """The time that a memory is about: when it began to hold, else when it was stored."""
    return record.valid_at or record.created_at


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
    tags: tuple[str, ...] = ()
    importance: float | None = None
    if_seq: int | None = None


class Filters(Frozen):
    """Which memories a search may find: every condition that is given must hold."""

    kind: Kind | None = None
    tags: tuple[str, ...] = ()
    """All of them."""
    without_tags: tuple[str, ...] = ()
    """None of them."""
    trust: tuple[Trust, ...] = ()
    """One of them."""
    since: datetime | None = None
    """What the memory is about (`valid_at`, else when it was stored) is not before this,"""
    until: datetime | None = None
    """and before this."""
    valid_at: datetime | None = None
    """It holds in the world at this moment; without dates of its own a memory always does."""

    def matches(self, record: MemoryRecord) -> bool:
        """Whether a record may be found."""
        return (
            (self.kind is None or record.kind == self.kind)
            and set(self.tags) <= set(record.tags)
            and not set(self.without_tags) & set(record.tags)
            and (not self.trust or record.trust in self.trust)
            and self._in_time(record)
        )

    def _in_time(self, record: MemoryRecord) -> bool:
        time = about(record)
        if (self.since is not None and time < self.since) or (self.until is not None and time >= self.until):
            return False
        if self.valid_at is None:
            return True
        began = record.valid_at is None or record.valid_at <= self.valid_at
        return began and (record.invalid_at is None or record.invalid_at > self.valid_at)


class Ranking(Frozen):
    """What counts beside relevance, which is between 0 and 1: weights of 0 (the default) leave a part out.

    Age is counted from the newest memory of the namespace, not from the clock: the same state always gives the same order.
    """

    recency: float = 0.0
    half_life_days: float = 30.0
    importance: float = 0.0


class Applied(Frozen):
    """A committed batch: the `seq` after it and the records as they now are (None for a deleted one)."""

    seq: int
    records: tuple[MemoryRecord | None, ...]


class Context(Frozen):
    """What stands before and after a memory in its session, each in the session's order; the memory itself is in neither."""

    before: tuple[MemoryRecord, ...] = ()
    after: tuple[MemoryRecord, ...] = ()


class SearchHit(Frozen):
    """A record, its score (higher is better) and the parts of the score: `dense` cosine, `text` BM25, and for episodic
    records with neighbours the same of their context, `dense_context` and `text_context`; `recency` and `importance`, each
    between 0 and 1, where the ranking counts them."""

    record: MemoryRecord
    score: float
    parts: dict[str, float] = Field(default_factory=dict[str, float])
    context: Context | None = None
    """Where a search was asked for neighbours. A store's own search is not."""


class NamespaceStats(Frozen):
    """The size of a namespace. `without_vector`: current memories that wait for the embedder (0 if there is none)."""

    seq: int = 0
    memories: int = 0
    versions: int = 0
    """Of memories, the current ones and the closed ones."""
    by_kind: dict[str, int] = Field(default_factory=dict[str, int])
    without_vector: int = 0
    not_indexed: int = 0
    """Rows that full text search must scan beside its index."""
    fragments: int = 0
    table_versions: int = 0
    bytes: int = 0
    """On the disk, with indexes and replaced files that are still kept for other readers."""
