"""What stores of memories do: behind HTTP, in this process, and with files of their own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from recollect.audit import AuditOptions, StoreAudit, Tell
from recollect.memory import (
    Applied,
    Filters,
    Kind,
    MemoryRecord,
    MemoryWrite,
    Namespace,
    NamespaceStats,
    Ranking,
    SearchHit,
    SearchMode,
)


class BaseStore(Protocol):
    """What every store does, one behind HTTP too."""

    async def apply(self, namespace: Namespace, writes: Sequence[MemoryWrite]) -> Applied:
        """Commit `writes`, all or nothing; returns after the commit. Raises InvalidRequest, NotFound, Conflict, StorageFull."""
        ...

    async def get(self, namespace: Namespace, memory_id: str, *, as_of: int | None = None) -> MemoryRecord | None:
        """The version that is current, or was current at `as_of`."""
        ...

    async def list(
        self, namespace: Namespace, *, limit: int = 100, offset: int = 0, kind: Kind | None = None, as_of: int | None = None
    ) -> Sequence[MemoryRecord]:
        """Current records, newest first."""
        ...

    async def search(
        self,
        namespace: Namespace,
        query: str,
        *,
        limit: int = 10,
        mode: SearchMode = "hybrid",
        filters: Filters = Filters(),
        ranking: Ranking = Ranking(),
        as_of: int | None = None,
    ) -> Sequence[SearchHit]:
        """The best `limit` records, best first. Without an embedder, dense parts are left out. Raises InvalidRequest, EmbedderError."""
        ...

    async def neighbours(self, namespace: Namespace, memory_id: str, *, reach: int = 2, as_of: int | None = None) -> Sequence[MemoryRecord]:
        """An episodic memory with up to `reach` memories of its session before and after it, in their order.

        The memory alone where it has no session; nothing for an unknown id.
        """
        ...

    async def history(self, namespace: Namespace, memory_id: str) -> Sequence[MemoryRecord]:
        """All versions of one memory, oldest first."""
        ...

    async def seq(self, namespace: Namespace) -> int:
        """The number of the last commit; 0 for a namespace never written."""
        ...

    def export(self, namespace: Namespace) -> AsyncGenerator[MemoryRecord]:
        """All current records, oldest first, as of one moment."""
        ...

    async def close(self) -> None:
        """Commit what is queued and release files."""
        ...


class MemoryStore(BaseStore, Protocol):
    """What agents, services and environments remember with. A fork implements it too, over one namespace."""

    async def fork(self, namespace: Namespace, *, as_of: int | None = None) -> MemoryStore:
        """A cheap private copy of one namespace as of a `seq`; what is written to it is seen by nobody else."""
        ...

    async def namespaces(self, tenant: str) -> Sequence[Namespace]:
        """Every namespace of a tenant that holds or held a memory."""
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

    async def reembed(self, namespace: Namespace) -> int:
        """Make the vectors of a namespace anew if another embedder made them, in the background; returns how many are to be made.

        Raises ConfigurationError without an embedder.
        """
        ...

    async def audit(self, namespace: Namespace, options: AuditOptions, tell: Tell) -> StoreAudit:
        """Duplicates, contradictions, secrets and sizes of a namespace. `tell` is called in another thread."""
        ...

    async def sweep(self, tenant: str) -> None:
        """Remove what killed processes left of a tenant, beside the namespaces that are known."""
        ...

    async def drop(self, namespace: Namespace) -> Sequence[MemoryRecord]:
        """Erase a whole namespace, its name on the disk included; returns all versions that were erased."""
        ...
