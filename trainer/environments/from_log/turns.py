"""Which logged trajectories may be used, in which order they happened, and which of them asked the same again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from recollect.events import LoggedTrajectory
from trainer.environments.from_log.gold import Refused


def check_usable(item: LoggedTrajectory, tenant: str, flows: Mapping[str, str], conversing: Collection[str]) -> str:
    """The flow of its agent. Raises Refused for what may neither be asked again nor be replayed."""
    trajectory = item.trajectory
    if trajectory.tenant != tenant:
        raise Refused("another tenant")
    if item.redacted:
        raise Refused("forgotten")
    if trajectory.consent == "none":
        raise Refused("no consent")
    if trajectory.error is not None:
        raise Refused("failed")
    flow = flows.get(trajectory.agent, "")
    if flow != "reading" and flow not in conversing:
        raise Refused("another agent")
    if flow in conversing and not trajectory.use_memory:
        raise Refused("memory was off")
    return flow


def in_order_of_memory(items: Sequence[LoggedTrajectory]) -> list[LoggedTrajectory]:
    """Trajectories of one namespace in the order in which they found its memory, else in that of the log.

    The namespace's `seq` grows with every commit, whatever the clocks of the processes that answered say.
    """
    last, order = 0, list[int]()
    for item in items:
        last = item.trajectory.memory_seq_before.get(item.trajectory.namespace, last)
        order.append(last)
    return [item for _, item in sorted(zip(order, items, strict=True), key=lambda pair: pair[0])]


def repeated(items: Iterable[LoggedTrajectory]) -> list[list[LoggedTrajectory]]:
    """Groups of trajectories that follow each other and ask the same in the same session: answers to one request."""
    groups: list[list[LoggedTrajectory]] = []
    for item in items:
        if groups and _asked(groups[-1][-1]) == _asked(item):
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def _asked(item: LoggedTrajectory) -> tuple[object, ...]:
    t = item.trajectory
    return t.agent, t.namespace, t.session, tuple((m.role, m.content, m.file_id) for m in t.request)
