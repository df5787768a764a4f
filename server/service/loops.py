"""What of the memories the log explains: recall loops, and memories that nothing recalls."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from datetime import datetime, timedelta

from recollect.audit import Loops, RecallLoop, Shown, Unused
from recollect.memory import MemoryRecord
from server.agents.fence import Fence
from server.agents.prompts import PACKS, load_prompt
from server.agents.verbatim import words
from server.service.recalled import Recalled


def all_fences() -> list[Fence]:
    """The fences of all prompt packs: a memory may have been written under another pack than today's."""
    return [Fence.of(load_prompt(pack.name, "answer")) for pack in sorted(PACKS.iterdir()) if (pack / "answer.yaml").is_file()]


def loops(records: Sequence[MemoryRecord], log: Recalled, fences: Iterable[Fence], hidden: Container[str], limit: int) -> Loops:
    """Memories whose text was injected: by the fence that it stood in, or by the log of the answer that wrote it.

    Texts are compared as the agent does before it stores one: word for word, blanks made even.
    """
    fences = list(fences)
    said = {record.id: words(record.text) for record in records}
    found: list[RecallLoop] = []
    traced = untraced = 0
    for record in records:
        recalls = log.by_trajectory.get(record.provenance.trajectory_id or "")
        traced += recalls is not None
        untraced += recalls is None and record.provenance.trajectory_id is not None
        if any(fence.strip(record.text) != record.text for fence in fences):
            found.append(RecallLoop(memory=Shown.of(record, hidden), reason="fence"))
            continue
        others = ((memory_id, seen) for memory_id, seen in sorted(recalls or ()) if memory_id != record.id)
        source = next((i for i, seen in others if seen == record.content_hash or said.get(i) == said[record.id]), None)
        if source is not None:
            found.append(RecallLoop(memory=Shown.of(record, hidden), reason="recalled", source=source))
    return Loops(found=tuple(found[:limit]), count=len(found), traced=traced, untraced=untraced)


def unused(records: Sequence[MemoryRecord], log: Recalled, days: int, now: datetime, hidden: Container[str], limit: int) -> Unused:
    """Memories, given oldest first, stored more than `days` ago that no logged trajectory recalled; none if the log is shorter."""
    log_days = (now - log.since) / timedelta(days=1) if log.since else 0.0
    judged = log_days >= days
    recalled, before = log.ids, now - timedelta(days=days)
    found = [record for record in records if judged and record.created_at < before and record.id not in recalled]
    return Unused(
        days=days,
        log_days=round(log_days, 2),
        trajectories=len(log.by_trajectory),
        judged=judged,
        count=len(found),
        memories=tuple(Shown.of(record, hidden) for record in found[:limit]),
    )
