"""Rewards of the whole log computed anew and appended where they differ: no model answers anything again."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from recollect.errors import ConfigurationError
from recollect.events import LogEvent, LoggedTrajectory
from recollect.log import LogWriter
from recollect.trajectory import Reward
from trainer.config import TrainConfig
from trainer.environments.from_log.gold import writers
from trainer.environments.from_log.tasks import tasks_from_log
from trainer.environments.tasks import Task
from trainer.reverify import next_turn
from trainer.reverify.signals import SIGNALS, rewards_of
from trainer.rewards.catalogue import JUDGE
from trainer.rewards.judge import Judge
from trainer.rewards.score import score
from trainer.rewards.weights import MATCH, RewardWeights

MEASURED = "reverify"
"""The `metadata.source` of rewards that compare a logged answer with what is known to be right."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which rewards are wanted: signals of the log, measures by weight (None: none), and what the next turn is read by."""

    signals: frozenset[str]
    measures: RewardWeights | None = None
    next_turn: bool = False
    hints: bool = False


@dataclass(slots=True)
class Counts:
    """What became of one reward, by trajectories. `total` is the sum of the scores."""

    source: str
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    not_scored: int = 0
    total: float = 0.0

    @property
    def row(self) -> dict[str, Any]:
        scored = self.new + self.changed + self.unchanged - self.not_scored
        mean = self.total / scored if scored else None
        found = {"source": self.source, "scored": scored, "mean": mean, "not_scored": self.not_scored}
        return found | {"new": self.new, "changed": self.changed, "unchanged": self.unchanged}


@dataclass(slots=True)
class Reverified:
    """What was found: by reward what became of it, and how many trajectories were passed over, by reason."""

    trajectories: int = 0
    skipped: Counter[str] = field(default_factory=Counter[str])
    rewards: dict[str, Counts] = field(default_factory=dict[str, Counts])
    events: list[LogEvent] = field(default_factory=list[LogEvent])

    def add(self, item: LoggedTrajectory, reward: Reward) -> None:
        """Count a reward, and keep an event for it if the log says otherwise, or nothing yet."""
        source = str(reward.metadata["source"])
        counts = self.rewards.setdefault(reward.name, Counts(source))
        known = [r for r in item.trajectory.rewards if (r.name, r.metadata.get("source")) == (reward.name, source)]
        counts.unchanged += known == [reward]
        counts.changed += bool(known) and known != [reward]
        counts.new += not known
        counts.not_scored += reward.score is None
        counts.total += reward.score or 0.0
        if known != [reward]:
            trajectory_id = item.trajectory.id
            event_id = f"reward/{trajectory_id}/{reward.name}/{uuid.uuid4().hex}"
            self.events.append(LogEvent(event_id=event_id, trajectory_id=trajectory_id, kind="reward", body=reward.model_dump(mode="json")))

    @property
    def report(self) -> dict[str, Any]:
        rows = [{"reward": name, **counts.row} for name, counts in sorted(self.rewards.items())]
        return {"trajectories": self.trajectories, "skipped": dict(self.skipped), "rewards": rows, "appended": len(self.events)}


def chosen(names: Sequence[str], config: TrainConfig, *, hints: bool) -> Chosen:
    """The rewards of these names; without any, the signals. Weights are those of the configuration, 1 where it has none.

    Raises ConfigurationError for an unknown name, and for a judge that nobody configured.
    """
    measured = [MATCH if name == "exact_match" else name for name in names if name not in {*SIGNALS, next_turn.NAME}]
    if not config.judge.url and (JUDGE in names or (next_turn.NAME in names and not hints)):
        raise ConfigurationError(
            "a judge is needed and judge.url names none; set judge.url and judge.model"
            + ("" if JUDGE in names else ", or take words for a hint with --hints"),
            param="judge.url",
        )
    weights = {name: config.rewards.match if name == MATCH else config.rewards.others.get(name, 1.0) for name in measured}
    try:
        measures = RewardWeights.model_validate({"match": 0.0, "format": 0.0, **weights}) if measured else None
    except ValueError as exc:
        known = ", ".join((*SIGNALS, next_turn.NAME))
        raise ConfigurationError(f"--rewards: {_first_line(exc)}; or of the log itself: {known}", param="rewards") from exc
    signals = frozenset(SIGNALS).intersection(names) if names else frozenset(SIGNALS)
    return Chosen(signals, measures, next_turn.NAME in names or (hints and not names), hints)


async def reverified(
    logged: Sequence[LoggedTrajectory], wanted: Chosen, config: TrainConfig, flows: Mapping[str, str], judge: Judge | None = None
) -> Reverified:
    """Every wanted reward of every trajectory that may be used. `logged` is in the order of the log. Writes nothing."""
    found = Reverified()
    usable = list(_usable(logged, found))
    for item in usable:
        for reward in rewards_of(item, wanted.signals):
            found.add(item, reward)
    if wanted.next_turn:
        for turn in next_turn.followed(usable):
            reward = next_turn.hinted(turn) if judge is None else await next_turn.judged(turn, judge)
            if reward is not None:
                found.add(turn.item, reward)
    if wanted.measures is not None:
        by_id = {item.trajectory.id: item for item in usable}
        for tenant in sorted({item.trajectory.tenant for item in usable}):
            tasks = tasks_from_log(usable, tenant=tenant, window=config.window, flows=flows, use=config.from_log).tasks
            for task in tasks:
                for reward in await _measured(task, by_id, wanted.measures, config, judge):
                    found.add(by_id[task.trajectory_ids[-1]], reward)
    return found


def append(writer: LogWriter, found: Reverified) -> None:
    """Write what differs. Each event is durable by itself: what a killed process left out, the next one appends."""
    for event in found.events:
        writer.append(event)


def _usable(logged: Iterable[LoggedTrajectory], found: Reverified) -> Iterable[LoggedTrajectory]:
    for item in logged:
        found.trajectories += 1
        if item.redacted:
            found.skipped["forgotten"] += 1
        elif item.trajectory.consent == "none":
            found.skipped["no consent"] += 1
        else:
            yield item


async def _measured(
    task: Task, by_id: Mapping[str, LoggedTrajectory], weights: RewardWeights, config: TrainConfig, judge: Judge | None
) -> list[Reward]:
    trajectory = by_id[task.trajectory_ids[-1]].trajectory
    turns = {turn.id for turn in task.conversation}
    wrote = writers(by_id[name].trajectory for name in task.trajectory_ids if name in turns)
    origins: dict[str, AbstractSet[str]] = {memory: {turn} for memory, turn in wrote.items()}
    rewards = await score(task, trajectory, weights, scoring=config.scoring, origins=origins, judge=judge)
    named = set(_names(weights, task))
    return [r.model_copy(update={"metadata": {**r.metadata, "source": MEASURED}}) for r in rewards if r.name in named]


def _names(weights: RewardWeights, task: Task) -> Collection[str]:
    """What was asked for: the match is always measured, but not always wanted."""
    return [name for name, weight in weights.of(task.metric).items() if weight]


def _first_line(exc: ValueError) -> str:
    return next((line.strip().removeprefix("Value error, ") for line in str(exc).splitlines()[1:] if line.strip()), str(exc))
