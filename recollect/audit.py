"""What an audit of a namespace's memories finds: the shapes that the store, the server, clients and commands share."""

from __future__ import annotations

from collections.abc import Callable, Container
from datetime import datetime
from typing import Literal

from pydantic import Field

from recollect.memory import Kind, MemoryRecord, about
from recollect.model import Frozen

EXCERPT = 200
"""Characters of a memory's text that a finding shows."""
Tell = Callable[[str, int, int], None]
"""Called with the part of the audit that goes on, how much of it is done, and how much there is (0: nobody knows)."""


def untold(part: str, done: int, total: int) -> None:
    """Where nobody asks how far the audit is."""


class AuditOptions(Frozen):
    """What counts as a finding."""

    cosine: float = Field(default=0.95, ge=0.5, le=1)
    """Of the vectors of near duplicates, at least,"""
    overlap: float = Field(default=0.5, ge=0, le=1)
    """and this share (Jaccard) of their words."""
    unused_days: int = Field(default=30, ge=1, le=36_500)
    """A memory that is older, and that nothing has recalled, counts as never retrieved."""
    limit: int = Field(default=100, ge=1, le=10_000)
    """Of each list of findings, except of exact duplicates and secrets, which are whole."""


class Shown(Frozen):
    """A memory in a finding. `text` is the beginning of its text; None where the memory holds a secret."""

    id: str
    seq: int
    """That its current version was written at."""
    kind: Kind
    at: datetime
    """What it is about: when it began to hold, else when it was stored."""
    text: str | None

    @classmethod
    def of(cls, record: MemoryRecord, hidden: Container[str] = ()) -> Shown:
        """A record as findings show it; `hidden` are the ids of memories that hold secrets."""
        text = record.text if len(record.text) <= EXCERPT else record.text[: EXCERPT - 1] + "…"
        shown = None if record.id in hidden else text
        return cls(id=record.id, seq=record.seq_from, kind=record.kind, at=about(record), text=shown)


class Duplicate(Frozen):
    """One that says the same as the memory that stays. `cosine`: of near duplicates, between the two."""

    memory: Shown
    cosine: float | None = None


class DuplicateGroup(Frozen):
    """Memories of one kind that say the same: the one that stays (of facts the newest, else the oldest), and the others."""

    stays: Shown
    others: tuple[Duplicate, ...]


class Contradiction(Frozen):
    """Two facts that may contradict each other: a candidate, to be judged by who knows. `cosine`: None without vectors."""

    newer: Shown
    older: Shown
    differ_in: Literal["value", "number", "date", "negation"]
    cosine: float | None = None


class SecretFound(Frozen):
    """A memory that holds what looks like a secret. The secret itself is never told."""

    id: str
    kinds: tuple[str, ...]
    """Of secrets, as the detector names them."""
    places: tuple[str, ...]
    """`text`, `tags`, or `metadata.NAME`."""
    versions: int
    """Of the memory that hold one,"""
    current: bool
    """and whether its current version does; earlier and deleted versions are on the disk too."""


class KindSize(Frozen):
    """The current memories of one kind, and the bytes of their texts."""

    kind: Kind
    memories: int
    bytes: int


class SizedMemory(Frozen):
    """A large memory, and the bytes of its text."""

    memory: Shown
    bytes: int


class VersionedMemory(Frozen):
    """A memory that was often changed; its current version, or its last."""

    memory: Shown
    versions: int


class Sizes(Frozen):
    """What the memories take, without indexes and vectors."""

    by_kind: tuple[KindSize, ...]
    largest: tuple[SizedMemory, ...]
    versions: int
    """Of all memories, closed and deleted ones included."""
    most_versions: tuple[VersionedMemory, ...]


class StoreAudit(Frozen):
    """What the stored memories alone tell."""

    seq: int
    memories: int
    without_vector: int
    """Of the current memories: near duplicates among them are not found."""
    exact: tuple[DuplicateGroup, ...]
    near: tuple[DuplicateGroup, ...]
    near_count: int
    """Groups, of which `near` has the first."""
    contradictions: tuple[Contradiction, ...]
    contradictions_count: int
    secrets: tuple[SecretFound, ...]
    sizes: Sizes


class RecallLoop(Frozen):
    """A memory whose text was itself injected: it holds a fenced block, or says what was recalled into the answer that wrote it."""

    memory: Shown
    reason: Literal["fence", "recalled"]
    source: str | None = None
    """The recalled memory's id."""


class Loops(Frozen):
    """Recall loops, and how far it can be told that there are no others."""

    found: tuple[RecallLoop, ...]
    count: int
    traced: int
    """Memories whose trajectory is in the log."""
    untraced: int
    """Memories that a trajectory wrote which the log does not hold, or holds no longer: of them only the fence was looked for."""


class Unused(Frozen):
    """Memories that are older than `days` and that no logged trajectory recalled. Searches by clients are not logged."""

    days: int
    log_days: float
    """How long ago the oldest event of the log is; 0 for no log."""
    trajectories: int
    """Of the namespace, in the log."""
    judged: bool
    """False if the log is shorter than `days`: nothing is condemned then."""
    count: int
    memories: tuple[Shown, ...]
    """The oldest of them."""


class Audit(Frozen):
    """Everything that an audit of one namespace found."""

    namespace: str
    at: datetime
    seconds: float
    options: AuditOptions
    store: StoreAudit
    loops: Loops
    unused: Unused
    corrupt_lines: int
    """Of the log, that could not be read."""


class Mended(Frozen):
    """What a fix did. `left`: ids that were named but are no finding any more."""

    deleted: tuple[str, ...]
    forgotten: tuple[str, ...]
    left: tuple[str, ...]
