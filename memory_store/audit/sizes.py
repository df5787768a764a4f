"""What the memories of a namespace take: by kind, the largest, the most often changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence

from recollect.audit import KindSize, Shown, SizedMemory, Sizes, VersionedMemory
from recollect.memory import Kind, MemoryRecord

LARGEST = 10


def sizes(current: Sequence[MemoryRecord], versions: Sequence[MemoryRecord], hidden: Container[str] = ()) -> Sizes:
    """Of the current memories, and of all versions of all memories, oldest first. Texts of `hidden` ids are not shown."""
    memories: Counter[Kind] = Counter(record.kind for record in current)
    size: Counter[Kind] = Counter()
    for record in current:
        size[record.kind] += _bytes(record)
    written = Counter(version.id for version in versions)
    last = {version.id: version for version in versions}
    changed = [(memory_id, count) for memory_id, count in written.most_common(LARGEST) if count > 1]
    largest = sorted(current, key=_bytes, reverse=True)[:LARGEST]
    return Sizes(
        by_kind=tuple(KindSize(kind=kind, memories=count, bytes=size[kind]) for kind, count in sorted(memories.items())),
        largest=tuple(SizedMemory(memory=Shown.of(record, hidden), bytes=_bytes(record)) for record in largest),
        versions=len(versions),
        most_versions=tuple(VersionedMemory(memory=Shown.of(last[memory_id], hidden), versions=count) for memory_id, count in changed),
    )


def _bytes(record: MemoryRecord) -> int:
    return len(record.text.encode())
