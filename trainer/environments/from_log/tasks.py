"""Tasks from logged trajectories: an earlier conversation as input, a later question with a known right answer as the probe."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from recollect.events import LoggedTrajectory
from recollect.memory import Namespace
from recollect.trajectory import Trajectory
from trainer.environments.from_log.gold import Refused, gold_of, marked, rests_on, writers
from trainer.environments.from_log.settings import WINDOW, LogUse
from trainer.environments.from_log.split import dialogue_of, document_of, held_out
from trainer.environments.from_log.turns import check_usable, in_order_of_memory, repeated
from trainer.environments.tasks import Task, Turn

READING = "reading"
CONVERSING = frozenset({"dialogue", "memory-r1", "rmm"})
"""Flows that answer from the memory of their namespace, and remember what was said in it."""
FLOWS = {"memory": "dialogue", "reader": READING}
"""What the agents do whose trajectories give tasks, by their ids."""


class LoggedTasks(NamedTuple):
    """The tasks, oldest probe first; how many trajectories gave none, by reason; by task, the trajectories that its probe was;
    the ids of the tasks whose conversations are held out."""

    tasks: list[Task]
    left_out: dict[str, int]
    probes: dict[str, tuple[str, ...]]
    held_out: frozenset[str] = frozenset()


def tasks_from_log(
    logged: Sequence[LoggedTrajectory],
    *,
    tenant: str,
    window: int = WINDOW,
    flows: Mapping[str, str] = FLOWS,
    learners: Collection[str] | None = None,
    use: LogUse = LogUse(),
    counted: Collection[str] | None = None,
    held_out_share: float = 0.0,
) -> LoggedTasks:
    """A task for each request of the tenant with a known right answer, to an agent that `flows` names and `learners`, if given, has.

    A dialogue's probe replays up to `window` earlier turns of its namespace on the memory as it was before the first of them,
    none across the border of what is held out; probes that follow each other share them. A reader's probe is asked again as
    it was. What gives no task is counted, if it is in `counted`. `logged` is in the order of the log; times are not looked at.
    """
    made = _Made(flows, learners, window, use, counted, held_out_share)
    conversing: dict[str, list[LoggedTrajectory]] = defaultdict(list)
    reading: list[LoggedTrajectory] = []
    for item in logged:
        trajectory = item.trajectory
        try:
            flow = check_usable(item, tenant, flows, CONVERSING)
        except Refused as refused:
            made.leave_out([item], refused)
            continue
        (conversing[trajectory.namespace] if flow in CONVERSING else reading).append(item)
    for siblings in repeated(reading):
        made.read(siblings)
    for items in conversing.values():
        made.converse(in_order_of_memory(items))
    place = {item.trajectory.id: number for number, item in enumerate(logged)}
    made.tasks.sort(key=lambda task: place[task.trajectory_ids[-1]])
    return LoggedTasks(made.tasks, dict(made.left_out), made.probes, frozenset(made.held_out))


@dataclass(slots=True)
class _Shared:
    """A conversation that several probes are asked of, with the memory as it was before it."""

    before: list[Trajectory]
    as_of: int
    probes: list[Trajectory] = field(default_factory=list[Trajectory])

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(Turn(messages=tuple(t.request), reply=t.answer, session=t.session, at=t.created_at, id=t.id) for t in self.before)


@dataclass(slots=True)
class _Made:
    """Tasks in the making."""

    flows: Mapping[str, str]
    learners: Collection[str] | None
    window: int
    use: LogUse
    counted: Collection[str] | None
    held_out_share: float
    tasks: list[Task] = field(default_factory=list[Task])
    left_out: Counter[str] = field(default_factory=Counter[str])
    probes: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    held_out: set[str] = field(default_factory=set[str])

    def leave_out(self, items: Sequence[LoggedTrajectory], why: Refused | str) -> None:
        self.left_out.update(str(why) for item in items if self.counted is None or item.trajectory.id in self.counted)

    def read(self, siblings: Sequence[LoggedTrajectory]) -> None:
        """A request to a reader."""
        try:
            gold = self._gold(siblings)
        except Refused as refused:
            self.leave_out(siblings, refused)
            return
        trajectory = siblings[-1].trajectory
        self._add(
            siblings,
            aside=held_out(document_of(trajectory), self.held_out_share),
            task=Task(
                id=f"log-{trajectory.id}",
                kind="reading",
                agent=trajectory.agent,
                namespace=_namespace(trajectory),
                request=tuple(trajectory.request),
                gold=gold,
                source="logged",
                trajectory_ids=tuple(item.trajectory.id for item in siblings),
            ),
        )

    def converse(self, items: Sequence[LoggedTrajectory]) -> None:
        """All that was said in one namespace."""
        earlier: list[Trajectory] = []
        shared: _Shared | None = None
        aside, seq = False, 0
        for siblings in repeated(items):
            trajectory, first = siblings[-1].trajectory, siblings[0].trajectory
            seq = first.memory_seq_before.get(first.namespace, seq)  # where it was asked first: asking again changes no side
            before, aside = aside, held_out(dialogue_of(first, seq), self.held_out_share)
            if aside != before:
                earlier, shared = [], None
            try:
                gold = self._gold(siblings)
                if shared is None or not self._shares(shared, trajectory):
                    shared = _shared(earlier[-self.window :] if self.window else [], trajectory)
                self._add(siblings, _dialogue(siblings, shared, gold), aside=aside)
                shared.probes.extend(item.trajectory for item in siblings)
            except Refused as refused:
                self.leave_out(siblings, refused)
                shared = None
            earlier.append(trajectory)

    def _gold(self, siblings: Sequence[LoggedTrajectory]) -> tuple[str, ...]:
        trajectory = siblings[-1].trajectory
        if self.learners is not None and trajectory.agent not in self.learners:
            raise Refused("another policy")
        if any(message.file_id for message in trajectory.request):
            raise Refused("its document is a file")
        if trajectory.tools or not all(message.is_text for message in trajectory.request):
            raise Refused("its client ran tools, or showed images")
        gold = gold_of(siblings, next_turn=self.use.next_turn)
        if any(trust in self.use.distrusted for item in siblings for _, trust in rests_on(item.trajectory)):
            raise Refused("rests on a memory that is not trusted")
        return gold

    def _shares(self, shared: _Shared, probe: Trajectory) -> bool:
        """Whether a probe may be asked of the conversation that those before it are asked of: not if it needs what they said."""
        wrote = writers(shared.probes)
        return len(shared.probes) < self.use.probes and not any(memory in wrote for step in probe.steps for memory in step.cited)

    def _add(self, siblings: Sequence[LoggedTrajectory], task: Task, *, aside: bool) -> None:
        self.tasks.append(task)
        if aside:
            self.held_out.add(task.id)
        self.probes[task.id] = tuple(item.trajectory.id for item in siblings)
        self.leave_out(siblings[:-1], "asked again")


def _shared(before: list[Trajectory], probe: Trajectory) -> _Shared:
    first = before[0] if before else probe
    as_of = first.memory_seq_before.get(probe.namespace)
    if as_of is None:
        raise Refused("memory state not recorded")
    return _Shared(before, as_of)


def _dialogue(siblings: Sequence[LoggedTrajectory], shared: _Shared, gold: tuple[str, ...]) -> Task:
    trajectory, turns = siblings[-1].trajectory, shared.turns
    return Task(
        id=f"log-{trajectory.id}",
        kind="dialogue",
        agent=trajectory.agent,
        namespace=_namespace(trajectory),
        as_of=shared.as_of,
        conversation=turns,
        request=tuple(trajectory.request),
        session=trajectory.session,
        at=trajectory.created_at,
        gold=gold,
        evidence=marked(siblings, shared.before, turns),
        source="logged",
        trajectory_ids=(*(t.id for t in shared.before), *(item.trajectory.id for item in siblings)),
    )


def _namespace(trajectory: Trajectory) -> Namespace:
    return Namespace.parse(trajectory.namespace, tenant=trajectory.tenant)
