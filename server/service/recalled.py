"""What the trajectory log tells of a namespace's recalls: which memories, into which answer, and since when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from recollect.log_read import CorruptLine, read_events
from recollect.memory import Namespace

EVENTS = 1_000
Recall = tuple[str, str]
"""A memory's id, and the content hash that it had."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """The recalls of each trajectory of a namespace. `since`: the oldest event of the whole log; None for no log."""

    by_trajectory: Mapping[str, frozenset[Recall]]
    since: datetime | None
    corrupt_lines: int

    @property
    def ids(self) -> set[str]:
        """The memories that were recalled at all."""
        return {memory_id for recalls in self.by_trajectory.values() for memory_id, _ in recalls}


def recalled(root: Path, namespace: Namespace, advance: Callable[[int], None] = lambda _: None) -> Recalled:
    """Read the log once, keeping of each trajectory only what it recalled. Blocking. `advance` is told of events read.

    A forgotten trajectory is left out: what it recalled is not in the log any more. Lines that cannot be read are counted.
    """
    found: dict[str, frozenset[Recall]] = {}
    forgotten: set[str] = set()
    since: datetime | None = None
    corrupt: list[CorruptLine] = []
    for number, event in enumerate(read_events(root, corrupt=corrupt.append)):
        if number % EVENTS == 0:
            advance(number)
        since = event.ts if since is None else min(since, event.ts)
        if event.kind == "redaction":
            forgotten.add(event.trajectory_id)
        body = event.body
        begins = event.kind == "trajectory" and (body["tenant"], body["namespace"]) == (namespace.tenant, str(namespace))
        if begins or (event.kind == "steps" and event.trajectory_id in found):
            found[event.trajectory_id] = found.get(event.trajectory_id, frozenset()) | _recalls(body)
    return Recalled({i: recalls for i, recalls in found.items() if i not in forgotten}, since, len(corrupt))


def _recalls(body: Mapping[str, Any]) -> frozenset[Recall]:
    return frozenset((ref["id"], ref["content_hash"]) for step in body.get("steps", ()) for ref in step.get("retrieved", ()))
